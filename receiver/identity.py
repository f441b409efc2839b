"""Which event a verified delivery is, and what work it makes. Pure.

The endpoint names the resource; a body is believed only where its endpoint may speak for what it
names.
"""

from typing import Any

from receiver.providers import Announcement
from storage import EndpointView


def meaning(
    view: EndpointView | None,
    announced: Announcement | None,
    message_id: str | None,
    digest: bytes,
) -> dict[str, Any]:
    """Which event this is and what work it makes. The endpoint names the resource.

    A key that names a resource is used only where the endpoint (or the account) may speak for
    that resource; everything else is keyed under the endpoint itself, so that the holder of one
    secret can neither announce nor shadow anybody else's event.
    """
    if view is None:
        return _account_meaning(announced, message_id, digest)
    own = f"{view.id}:{message_id or digest.hex()}"
    fetch = {"disposition": "fetch", "subject_kind": view.kind, "subject": view.resource}
    if announced is None:
        if view.resource is None:
            return _unusable(own, view.kind, "its body cannot be read, and no resource is bound")
        return {"key": own, **fetch}
    awaits = {"awaits_end": announced.is_end}
    if announced.kind == view.kind and view.resource is None:
        key = f"{view.id}:{announced.key}" if announced.key else own
        return {"key": key, **fetch, "subject": announced.resource, **awaits}
    if announced.kind == view.kind and announced.resource == view.resource:
        key = own if message_id else announced.key or own
        return {"key": key, **fetch, **awaits}
    in_batch = view.resource is None or announced.batch_id in (None, view.resource)
    if view.kind == "batch" and announced.kind == "task" and in_batch:
        key = f"{view.id}:{announced.key}" if announced.key else own
        task = {"subject_kind": "task", "subject": announced.resource}
        return {"key": key, **fetch, **task, **awaits}
    return _unusable(
        own, view.kind, f"it names {announced.kind} {announced.resource}, not {view.resource}"
    )


def _account_meaning(
    announced: Announcement | None, message_id: str | None, digest: bytes
) -> dict[str, Any]:
    own = message_id or f"account:{digest.hex()}"
    if announced is None:
        return _unusable(own, "account", "its body cannot be read")
    ignored = announced.kind not in ("batch", "task", "run")
    return {
        "key": message_id or announced.key or own,
        "disposition": "ignored" if ignored else "fetch",
        "subject_kind": announced.kind,
        "subject": announced.resource,
        "awaits_end": announced.is_end,
    }


def _unusable(key: str, kind: str, reason: str) -> dict[str, Any]:
    return {
        "key": key,
        "disposition": "unusable",
        "subject_kind": kind,
        "subject": None,
        "reason": reason,
    }
