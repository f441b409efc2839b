"""Parallel's v1 as a whole: its runs and groups, and the webhooks that announce the runs."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from receiver.sandbox.parallel import views
from receiver.sandbox.parallel.outputs import output
from receiver.sandbox.parallel.records import ParallelRun
from receiver.sandbox.parallel.signing import ParallelSigning
from receiver.sandbox.parallel.state import ParallelState
from receiver.sandbox.responses import encode
from receiver.sandbox.senders import UNREADABLE, Parcel
from receiver.sandbox.switches import Panel, Switches

EVENT_TYPE = "task_run.status"


class ParallelSender:
    """Simulated Parallel; calls `announce` with the webhook of each run that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[Parcel], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.runs = ParallelState(panel, self._ended)

    def _ended(self, run: ParallelRun) -> None:
        if found := parcel(run, self._panel.switches):
            self._announce(found)

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        """Return the webhook of a run, or the webhooks of all runs of a group."""
        if name in self.runs.runs:
            runs = [self.runs.runs[name]]
        elif name in self.runs.groups:
            runs = self.runs.groups[name].runs
        else:
            return None
        found = [parcel(run, self._panel.switches, changes=changes) for run in runs]
        return [each for each in found if each is not None]

    def state(self) -> dict[str, Any]:
        """Return runs by status, and groups as the API shows them."""
        switches = self._panel.switches
        return {
            "parallel_runs": dict(Counter(run.status for run in self.runs.runs.values())),
            "parallel_groups": [
                views.group(group, views.group_status(group, switches))
                for group in self.runs.groups.values()
            ],
        }

    def release(self) -> None:
        self.runs.release()

    def clear(self) -> None:
        self.runs.clear()


def parcel(
    run: ParallelRun, switches: Switches, *, changes: dict[str, Any] | None = None
) -> Parcel | None:
    """Return the webhook of a run in its present state; None if the run has none for this event.

    The webhook-id is made from the body, so that every delivery of an event has the same one.
    `changes` replaces keys of the run before it is signed.
    """
    webhook = run.request.webhook
    if webhook is None or not _is_subscribed(webhook.event_types, switches):
        return None
    body = _body(run, views.run(run, switches) | (changes or {}), switches)
    event = f"whevent_{hashlib.sha256(run.run_id.encode() + body).hexdigest()[:24]}"
    return Parcel("task_run", run.run_id, webhook.url, body, ParallelSigning(event))


def _is_subscribed(event_types: list[str], switches: Switches) -> bool:
    if not event_types:
        return switches.parallel_empty_event_types == "all"
    return EVENT_TYPE in event_types


def _body(run: ParallelRun, shown: dict[str, Any], switches: Switches) -> bytes:
    match switches.webhook_body:
        case "unreadable":
            return UNREADABLE
        case "foreign":
            shown |= {"run_id": f"trun_{uuid.uuid4().hex}"}
        case "outputs":
            shown |= {"output": output(run, switches)}
        case "flat" | "wrapped":
            # Parallel has only one form, which is wrapped.
            pass
    return encode({"timestamp": views.stamp(run.modified_at), "type": EVENT_TYPE, "data": shown})
