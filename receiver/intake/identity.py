"""Says which event a verified delivery is, and what work it makes. Pure.

The endpoint names the resource; a body is believed only where its endpoint may speak for what it
names.
"""

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

from receiver.providers.model import Announcement
from storage import EndpointView

RUNS = frozenset({"task", "run"})
"""Kinds of resource that may belong to a batch."""


class EventIdentity(NamedTuple):  # one is made for each delivery: a dataclass costs three times it
    """Identity of an event, and the work that it makes: see storage's VerifiedDelivery.

    `hints` spare the worker calls; `reason` says why a delivery is unusable.
    """

    key: str
    disposition: str
    subject_kind: str
    subject: str | None
    awaits_end: bool = True
    hints: Mapping[str, Any] | None = None
    reason: str | None = None


def identify(
    view: EndpointView | None,
    announced: Announcement | None,
    message_id: str | None,
    digest: bytes,
    *,
    kinds: Set[str],
    is_signed: bool = True,
) -> EventIdentity:
    """Return the identity of the event that a delivery announces.

    `view` is None at the account's own URL; `announced` is None for an unreadable body;
    `message_id` is the id that the signature covers; `kinds` is what the source's provider
    fetches. `is_signed` says that the body itself is proven, not only who sent it: otherwise
    nothing is taken from it but what the endpoint may speak for.

    A key that names a resource is used only where the endpoint (or the account) may speak for that
    resource; every other key begins with the endpoint's id, so that the holder of one secret can
    neither announce nor shadow anybody else's event.
    """
    if view is None or view.kind == "account":
        return _of_account(announced, message_id, digest, kinds, is_signed)
    key = None if message_id or announced is None else announced.key
    at_endpoint = f"{view.id}:{key or message_id or digest.hex()}"
    if announced is None:  # where no resource is bound yet, the job waits until one is
        return EventIdentity(at_endpoint, "fetch", view.kind, view.resource)
    if announced.kind == view.kind and announced.resource == view.resource:
        return _of_resource(key or at_endpoint, announced, is_signed)
    if _may_speak_for(view, announced):
        return _of_resource(at_endpoint, announced, is_signed)
    reason = f"it names {announced.kind} {announced.resource}, not {view.resource}"
    return _unusable(f"{view.id}:{message_id or digest.hex()}", view.kind, reason)


def _may_speak_for(view: EndpointView, announced: Announcement) -> bool:
    """Return True for what may turn out to be the endpoint's: its resource, or a run of its batch.

    The worker stores such a run only if the sender's API says that it belongs to the batch.
    """
    if announced.kind == view.kind:
        return view.resource is None
    in_batch = view.resource is None or announced.batch_id in (None, view.resource)
    return view.kind == "batch" and announced.kind in RUNS and in_batch


def _of_account(
    announced: Announcement | None,
    message_id: str | None,
    digest: bytes,
    kinds: Set[str],
    is_signed: bool,
) -> EventIdentity:
    own = message_id or f"account:{digest.hex()}"
    if announced is None:
        return _unusable(own, "account", "its body cannot be read")
    disposition = "fetch" if announced.kind in kinds else "ignored"
    return _of_resource(message_id or announced.key or own, announced, is_signed, disposition)


def _of_resource(
    key: str, announced: Announcement, is_signed: bool, disposition: str = "fetch"
) -> EventIdentity:
    """Return the identity of what the body announces; a run's batch and status spare calls."""
    hints = None
    if announced.kind == "run":
        hints = {"status": announced.status}
        if is_signed and announced.batch_id is not None:
            hints["batch"] = announced.batch_id
    return EventIdentity(
        key, disposition, announced.kind, announced.resource, announced.is_end, hints
    )


def _unusable(key: str, kind: str, reason: str) -> EventIdentity:
    return EventIdentity(key, "unusable", kind, None, reason=reason)
