"""Valyu as a whole: its batches, tasks and contents jobs, and the webhooks that announce them."""

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from receiver.sandbox.responses import encode
from receiver.sandbox.senders import UNREADABLE, Parcel
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu import contents_jobs, views
from receiver.sandbox.valyu.contents_jobs import ContentsJob, ContentsJobs
from receiver.sandbox.valyu.records import ValyuBatch, ValyuTask
from receiver.sandbox.valyu.signing import ValyuSigning
from receiver.sandbox.valyu.state import Research

Resource = ValyuBatch | ValyuTask | ContentsJob


class ValyuSender:
    """Simulated Valyu; calls `announce` with the webhook of each resource that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[Parcel], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.research = Research(panel, self._ended)
        self.jobs = ContentsJobs(panel, self._ended)

    def _ended(self, resource: Resource) -> None:
        if found := parcel(resource, self._panel):
            self._announce(found)

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        known = (self.research.batches, self.research.tasks, self.jobs.jobs)
        resource: Resource | None = next((each[name] for each in known if name in each), None)
        if resource is None:
            return None
        found = parcel(resource, self._panel, changes=changes)
        return [] if found is None else [found]

    def state(self) -> dict[str, Any]:
        """Return tasks by status, batches as the API shows them, and the number of jobs."""
        batches = self.research.batches.values()
        return {
            "tasks": dict(Counter(task.status for task in self.research.tasks.values())),
            "batches": [views.batch(batch, self._panel.switches) for batch in batches],
            "jobs": len(self.jobs.jobs),
        }

    def release(self) -> None:
        """Start held tasks; contents jobs are never held."""
        self.research.release()

    def clear(self) -> None:
        self.research.clear()
        self.jobs.clear()


class Announced(NamedTuple):
    """The object that a webhook announces, as the API shows it; `id_key` names its id."""

    kind: str
    id_key: str
    shown: dict[str, Any]


def parcel(
    resource: Resource, panel: Panel, *, changes: dict[str, Any] | None = None
) -> Parcel | None:
    """Return the webhook of a resource in its present state; None if it has no webhook URL.

    `changes` replaces keys of the body before it is signed: the delivery is then genuine, and
    says what is not, or not yet, true.
    """
    url, secret = _destination(resource)
    if url is None or secret is None:
        return None
    kind, id_key, shown = _announced(resource, panel)
    body = _body(Announced(kind, id_key, shown | (changes or {})), panel.switches)
    return Parcel(kind, shown[id_key], url, body, ValyuSigning(secret))


def _destination(resource: Resource) -> tuple[str | None, str | None]:
    batch = resource.batch if isinstance(resource, ValyuTask) else None
    return resource.webhook_url, (batch or resource).secret


def _announced(resource: Resource, panel: Panel) -> Announced:
    if isinstance(resource, ValyuTask):
        return Announced("task", "deepresearch_id", views.task(resource, panel))
    if isinstance(resource, ContentsJob):
        return Announced("contents", "job_id", contents_jobs.view(resource, panel.switches))
    shown = views.batch(resource, panel.switches)
    if panel.switches.webhook_body == "outputs":
        shown["tasks"] = [
            views.listed_task(task, panel, include_output=True) for task in resource.tasks
        ]
    return Announced("batch", "batch_id", shown)


def _body(announced: Announced, switches: Switches) -> bytes:
    kind, id_key, shown = announced
    match switches.webhook_body:
        case "unreadable":
            return UNREADABLE
        case "wrapped":
            return encode({"type": f"{kind}.{shown['status']}", "data": shown})
        case "foreign":
            return encode(shown | {id_key: str(uuid.uuid4())})
        case "flat" | "outputs":
            return encode(shown)
