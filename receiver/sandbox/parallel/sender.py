"""Parallel's v1 as a whole: runs, groups, and the webhook of each run."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from receiver.sandbox.answers import encode
from receiver.sandbox.deliveries import Parcel
from receiver.sandbox.parallel import views as views
from receiver.sandbox.parallel.outputs import output
from receiver.sandbox.parallel.records import Run
from receiver.sandbox.parallel.signing import ParallelSigning
from receiver.sandbox.parallel.state import Runs
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.announcements import UNREADABLE

EVENT_TYPE = "task_run.status"


class Parallel:
    """Runs, alone and in groups; hands the webhook of each that has ended to `announce`."""

    def __init__(self, panel: Panel, announce: Callable[[Parcel], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.runs = Runs(panel, self._ended)

    def _ended(self, run: Run) -> None:
        if found := parcel(run, self._panel.switches):
            self._announce(found)

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        """The delivery for a run, or those for all runs of a group."""
        if name in self.runs.runs:
            runs = [self.runs.runs[name]]
        elif name in self.runs.groups:
            runs = self.runs.groups[name].runs
        else:
            return None
        found = [parcel(run, self._panel.switches, changes=changes) for run in runs]
        return [each for each in found if each is not None]

    def state(self) -> dict[str, Any]:
        """Runs by status, and groups as they stand."""
        switches = self._panel.switches
        return {
            "parallel_runs": dict(Counter(run.status for run in self.runs.runs.values())),
            "parallel_groups": [
                views.group(group, views.group_status(group, switches))
                for group in self.runs.groups.values()
            ],
        }

    def release(self) -> None:
        """See `Sender`."""
        self.runs.release()

    def clear(self) -> None:
        """See `Sender`."""
        self.runs.clear()


def parcel(run: Run, switches: Switches, *, changes: dict[str, Any] | None = None) -> Parcel | None:
    """The delivery that announces a run as it stands, or None if nobody asked for any.

    The webhook-id comes from the body, so the same event has the same one however often it is
    delivered. `changes` replaces keys of the run in it before it is signed.
    """
    webhook = run.request.webhook
    if webhook is None or not _asked_for(webhook.event_types, switches):
        return None
    body = _body(run, views.run(run, switches) | (changes or {}), switches)
    event = f"whevent_{hashlib.sha256(run.run_id.encode() + body).hexdigest()[:24]}"
    return Parcel("task_run", run.run_id, webhook.url, body, ParallelSigning(event))


def _asked_for(event_types: list[str], switches: Switches) -> bool:
    if not event_types:
        return switches.parallel_empty_event_types == "all"
    return EVENT_TYPE in event_types


def _body(run: Run, shown: dict[str, Any], switches: Switches) -> bytes:
    match switches.webhook_body:
        case "unreadable":
            return UNREADABLE
        case "foreign":
            shown |= {"run_id": f"trun_{uuid.uuid4().hex}"}
        case "outputs":
            shown |= {"output": output(run, switches)}
        case "flat" | "wrapped":
            # Parallel has but one form, and that is wrapped.
            pass
    said_at = views.stamp(run.modified_at)
    return encode({"timestamp": said_at, "type": EVENT_TYPE, "data": shown})
