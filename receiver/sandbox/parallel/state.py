"""State of Parallel's v1: its runs and groups, and the course that each run takes to its end.

A run is queued, then running, then completed or failed; nothing cancels one. One planned call at a
time drives it, or none if runs take no time. Only `_move` changes a status, so that the counts of a
group always agree with its runs. Everything here runs on one event loop.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from receiver.sandbox.content import dice
from receiver.sandbox.parallel.records import ParallelGroup, ParallelRun
from receiver.sandbox.parallel.requests import CreateParallelRun, Metadata, RunStatus, TaskSpec
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Panel

QUEUED_SHARE = 0.2
"""Part of a run's time for which it is queued; it runs for the rest."""


class ParallelState:
    """All runs and groups; calls `announce` with each run that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[ParallelRun], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.runs: dict[str, ParallelRun] = {}
        self.groups: dict[str, ParallelGroup] = {}

    def run(self, run_id: str) -> ParallelRun:
        """Return the run with this id, alone or in a group; an unknown id is a 404."""
        if (run := self.runs.get(run_id)) is None:
            raise Refusal(404, "Run not found")
        return run

    def group(self, group_id: str) -> ParallelGroup:
        """Return the group with this id; an unknown id is a 404."""
        if (group := self.groups.get(group_id)) is None:
            raise Refusal(404, "TaskGroup not found")
        return group

    def create_group(self, metadata: Metadata | None) -> ParallelGroup:
        """Make a group without runs; runs can always be added to it."""
        group = ParallelGroup(metadata, self._panel.clock.now())
        self.groups[group.group_id] = group
        return group

    def create_run(self, wanted: CreateParallelRun, sent: dict[str, Any]) -> ParallelRun:
        """Make a queued single run, which `start` starts."""
        return self._keep(ParallelRun(wanted, sent, wanted.task_spec, self._panel.clock.now()))

    def add_runs(
        self,
        group: ParallelGroup,
        wanted: list[tuple[CreateParallelRun, dict[str, Any]]],
        default: TaskSpec | None,
    ) -> list[ParallelRun]:
        """Add queued runs to a group, in the order of the request; `start` starts them."""
        now = self._panel.clock.now()
        runs = [
            ParallelRun(each, sent, each.task_spec or default, now, group) for each, sent in wanted
        ]
        for run in runs:
            run.will_fail = len(group.runs) < self._panel.switches.failing_tasks
            group.runs.append(run)
            group.counts["queued"] += 1
            self._keep(run)
        group.modified_at = now
        _wake(group)
        return runs

    def _keep(self, run: ParallelRun) -> ParallelRun:
        run.will_fail = run.will_fail or self._panel.switches.fail_marker in run.request.text
        self.runs[run.run_id] = run
        return run

    def start(self, runs: list[ParallelRun]) -> None:
        """Start queued runs, unless the switch `hold` keeps them queued."""
        switches = self._panel.switches
        if switches.hold:
            return
        with self._panel.clock.stopped():
            for run in runs:
                self._start(run, dice(switches.seed, "duration", run.request.text))

    def _start(self, run: ParallelRun, chance: Random) -> None:
        seconds = chance.uniform(*self._panel.switches.duration)
        if seconds == 0:
            self._run(run, 0)
        elif run.status == "queued" and run.timer is None:
            then = partial(self._run, run, seconds * (1 - QUEUED_SHARE))
            self._after(seconds * QUEUED_SHARE, run, then)

    def release(self) -> None:
        """Start all runs that are still queued."""
        self.start([run for run in self.runs.values() if run.status == "queued"])

    def _after(self, seconds: float, run: ParallelRun, then: Callable[[], None]) -> None:
        delay = seconds / self._panel.switches.speed
        run.timer = self._panel.clock.call_after(delay, then)

    def _run(self, run: ParallelRun, seconds: float) -> None:
        self._move(run, "running")
        if self._panel.switches.stuck_marker in run.request.text:
            return
        if seconds == 0:
            self._finish(run)
        else:
            self._after(seconds, run, partial(self._finish, run))

    def _finish(self, run: ParallelRun) -> None:
        status: RunStatus = "failed" if run.will_fail else "completed"
        if run.group is not None:
            run.late = (
                status == "completed"
                and run.group.counts["completed"] < self._panel.switches.parallel_late_outputs
            )
            run.group.ended.append(run)
        self._move(run, status)
        self._announce(run)

    def _move(self, run: ParallelRun, status: RunStatus) -> None:
        _stop(run)
        if run.group is not None:
            run.group.counts[run.status] -= 1
            run.group.counts[status] += 1
        run.status, run.modified_at = status, self._panel.clock.now()
        _wake(run)
        if run.group is not None:
            run.group.modified_at = run.modified_at
            _wake(run.group)

    def clear(self) -> None:
        """Forget everything, announce nothing more, and wake every request that waits."""
        for run in self.runs.values():
            _stop(run)
            run.status = "cancelled"
            _wake(run)
        for group in self.groups.values():
            group.counts.clear()
            _wake(group)
        self.runs.clear()
        self.groups.clear()


def _stop(run: ParallelRun) -> None:
    if run.timer is not None:
        run.timer.cancel()
        run.timer = None


def _wake(kept: ParallelRun | ParallelGroup) -> None:
    """Wake the requests that wait for a change; later ones wait for the next change."""
    kept.changed.set()
    kept.changed = asyncio.Event()
