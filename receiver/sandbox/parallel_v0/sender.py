"""Parallel's v0 as a whole: its tasks, batches and runs, and the callback of each run."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from receiver.sandbox.parallel_v0 import views
from receiver.sandbox.parallel_v0.records import V0Run, new_id
from receiver.sandbox.parallel_v0.signing import CallbackSigning
from receiver.sandbox.parallel_v0.state import V0Runs
from receiver.sandbox.responses import encode
from receiver.sandbox.senders import UNREADABLE, Parcel
from receiver.sandbox.switches import Panel, Switches


class V0Sender:
    """Simulated v0; calls `announce` with the callback of each run that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[Parcel], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.runs = V0Runs(panel, self._ended)

    def _ended(self, run: V0Run) -> None:
        if found := parcel(run, self._panel.switches):
            self._announce(found)

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        """Return the callback of a run, or the callbacks of all runs of a batch."""
        if name in self.runs.runs:
            runs = [self.runs.runs[name]]
        elif name in self.runs.batches:
            runs = self.runs.batches[name].runs
        else:
            return None
        found = [parcel(run, self._panel.switches, changes=changes) for run in runs]
        return [each for each in found if each is not None]

    def state(self) -> dict[str, Any]:
        """Return the number of tasks, and runs by status: all of them, and those of each batch."""
        batches = self.runs.batches.items()
        return {
            "v0_tasks": len(self.runs.tasks),
            "v0_runs": _counts(self.runs.runs.values()),
            "v0_batches": {name: _counts(batch.runs) for name, batch in batches},
        }

    def release(self) -> None:
        self.runs.release()

    def clear(self) -> None:
        self.runs.clear()


def _counts(runs: Iterable[V0Run]) -> dict[str, int]:
    return dict(Counter(run.status for run in runs))


def parcel(
    run: V0Run, switches: Switches, *, changes: dict[str, Any] | None = None
) -> Parcel | None:
    """Return the callback of a run in its present state; None if its request named none.

    `changes` replaces keys of the run object before it is signed.
    """
    if run.callback is None:
        return None
    shown = views.run(run) | (changes or {})
    return Parcel(
        "v0_run",
        run.run_id,
        run.callback.url,
        _body(shown, switches),
        CallbackSigning(run.callback, f"msg_{run.run_id}_{shown['status']}"),
        tries=1 + switches.v0_retries,
    )


def _body(shown: dict[str, Any], switches: Switches) -> bytes:
    match switches.v0_callback_body:
        case "unreadable":
            return UNREADABLE
        case "foreign":
            return encode(shown | {"run_id": new_id()})
        case "run":
            return encode(shown)
