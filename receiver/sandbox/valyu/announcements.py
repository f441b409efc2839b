"""What Valyu's webhook says: the body of a delivery in each form that the sender's might have."""

import uuid
from typing import Any

from receiver.sandbox.answers import encode
from receiver.sandbox.deliveries import Parcel
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu import contents, views
from receiver.sandbox.valyu.contents import Job
from receiver.sandbox.valyu.records import Batch, Task
from receiver.sandbox.valyu.signing import ValyuSigning

Resource = Batch | Task | Job

UNREADABLE = b"\xff\xfe this is neither JSON nor UTF-8 {"


def parcel(
    resource: Resource, switches: Switches, *, changes: dict[str, Any] | None = None
) -> Parcel | None:
    """The delivery that announces a resource as it stands, or None if nobody asked for any.

    `changes` replaces keys of the body before it is signed: a genuine delivery that says
    something which is not, or not yet, so.
    """
    url, secret = _destination(resource)
    if url is None or secret is None:
        return None
    kind, name, shown = _shown(resource, switches)
    body = _body(kind, name, shown | (changes or {}), switches)
    return Parcel(kind, shown[name], url, body, ValyuSigning(secret))


def _destination(resource: Resource) -> tuple[str | None, str | None]:
    batch = resource.batch if isinstance(resource, Task) else None
    return resource.webhook_url, (batch or resource).secret


def _shown(resource: Resource, switches: Switches) -> tuple[str, str, dict[str, Any]]:
    """The kind of a resource, the name of its id, and the object the API shows for it."""
    if isinstance(resource, Task):
        return "task", "deepresearch_id", views.task(resource, switches)
    if isinstance(resource, Job):
        return "contents", "job_id", contents.view(resource, switches)
    shown = views.batch(resource, switches)
    if switches.webhook_body == "outputs":
        shown["tasks"] = [
            views.listed_task(task, switches, include_output=True) for task in resource.tasks
        ]
    return "batch", "batch_id", shown


def _body(kind: str, name: str, shown: dict[str, Any], switches: Switches) -> bytes:
    match switches.webhook_body:
        case "unreadable":
            return UNREADABLE
        case "wrapped":
            return encode({"type": f"{kind}.{shown['status']}", "data": shown})
        case "foreign":
            return encode(shown | {name: str(uuid.uuid4())})
        case "flat" | "outputs":
            return encode(shown)
