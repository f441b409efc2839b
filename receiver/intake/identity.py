"""Which event a verified delivery is, and what work it makes. Pure.

The endpoint names the resource; a body is believed only where its endpoint may speak for what it
names.
"""

from collections.abc import Set
from typing import Any

from receiver.providers.model import Announcement
from storage import EndpointView

RUNS = frozenset({"task", "run"})
"""The kinds that may be of a batch."""


def meaning(
    view: EndpointView | None,
    announced: Announcement | None,
    message_id: str | None,
    digest: bytes,
    *,
    kinds: Set[str],
    is_signed: bool = True,
) -> dict[str, Any]:
    """The fields of a VerifiedDelivery that say which event it is and what work it makes.

    `view` is None at the account's own URL; `message_id` is the id that the signature covers;
    `kinds` is what the source's provider fetches. `is_signed` says that the body itself is proven,
    not only who sent it: else nothing but what the endpoint may speak for is taken from it.

    A key that names a resource is used only where the endpoint (or the account) may speak for that
    resource; everything else is keyed under the endpoint itself, so that the holder of one secret
    can neither announce nor shadow anybody else's event.
    """
    if view is None or view.kind == "account":
        return _of_account(announced, message_id, digest, kinds, is_signed)
    own = f"{view.id}:{message_id or digest.hex()}"
    fetch = {"disposition": "fetch", "subject_kind": view.kind, "subject": view.resource}
    if announced is None:  # where no resource is bound yet, the job waits until one is
        return {"key": own, **fetch}
    told = _told(announced, is_signed)
    key = None if message_id else announced.key
    if announced.kind == view.kind and announced.resource == view.resource:
        return {"key": key or own, **fetch, **told}
    under_endpoint = f"{view.id}:{key}" if key else own
    if announced.kind == view.kind and view.resource is None:
        return {"key": under_endpoint, **fetch, "subject": announced.resource, **told}
    in_batch = view.resource is None or announced.batch_id in (None, view.resource)
    if view.kind == "batch" and announced.kind in RUNS and in_batch:
        run = {"subject_kind": announced.kind, "subject": announced.resource}
        return {"key": under_endpoint, **fetch, **run, **told}
    return _unusable(
        own, view.kind, f"it names {announced.kind} {announced.resource}, not {view.resource}"
    )


def _of_account(
    announced: Announcement | None,
    message_id: str | None,
    digest: bytes,
    kinds: Set[str],
    is_signed: bool,
) -> dict[str, Any]:
    own = message_id or f"account:{digest.hex()}"
    if announced is None:
        return _unusable(own, "account", "its body cannot be read")
    return {
        "key": message_id or announced.key or own,
        "disposition": "fetch" if announced.kind in kinds else "ignored",
        "subject_kind": announced.kind,
        "subject": announced.resource,
        **_told(announced, is_signed),
    }


def _told(announced: Announcement, is_signed: bool) -> dict[str, Any]:
    """What the worker may use as a hint; a run's batch and status spare it calls."""
    if announced.kind != "run":
        return {"awaits_end": announced.is_end}
    hints = {"status": announced.status}
    if is_signed and announced.batch_id is not None:
        hints["batch"] = announced.batch_id
    return {"awaits_end": announced.is_end, "hints": hints}


def _unusable(key: str, kind: str, reason: str) -> dict[str, Any]:
    return {
        "key": key,
        "disposition": "unusable",
        "subject_kind": kind,
        "subject": None,
        "reason": reason,
    }
