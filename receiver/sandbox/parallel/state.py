"""The state behind Parallel's v1: runs and groups, and how runs come to their ends.

A run goes queued -> running -> completed | failed, driven by one timer at a time, or by none when
runs take no time; nothing cancels one. `_move` is the only place that changes a status, so the
counts of a group always agree with its runs. Everything here runs on one event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from receiver.sandbox.answers import Refusal
from receiver.sandbox.content import dice
from receiver.sandbox.parallel.records import Group, Run
from receiver.sandbox.parallel.requests import CreateRun, Metadata, RunStatus, TaskSpec
from receiver.sandbox.switches import Panel
from receiver.sandbox.valyu.records import now

# What is left of a run's time is spent running.
QUEUED_SHARE = 0.2


class Runs:
    """All runs and groups; calls `announce` with each run that has ended."""

    def __init__(self, panel: Panel, announce: Callable[[Run], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.runs: dict[str, Run] = {}
        self.groups: dict[str, Group] = {}

    def run(self, run_id: str) -> Run:
        """The run of that id, alone or of a group; a 404 if there is none."""
        if (run := self.runs.get(run_id)) is None:
            raise Refusal(404, "Run not found")
        return run

    def group(self, group_id: str) -> Group:
        """The group of that id; a 404 if there is none."""
        if (group := self.groups.get(group_id)) is None:
            raise Refusal(404, "TaskGroup not found")
        return group

    def create_group(self, metadata: Metadata | None) -> Group:
        """A group without runs, which can be added for ever."""
        group = Group(metadata)
        self.groups[group.group_id] = group
        return group

    def create_run(self, wanted: CreateRun, sent: dict[str, Any]) -> Run:
        """A queued run of its own; `start` sets it going."""
        return self._keep(Run(wanted, sent, wanted.task_spec))

    def add_runs(
        self,
        group: Group,
        wanted: list[tuple[CreateRun, dict[str, Any]]],
        default: TaskSpec | None,
    ) -> list[Run]:
        """Queued runs in a group, in the order asked for; `start` sets them going."""
        runs = [Run(each, sent, each.task_spec or default, group) for each, sent in wanted]
        for run in runs:
            run.will_fail = len(group.runs) < self._panel.switches.failing_tasks
            group.runs.append(run)
            group.counts["queued"] += 1
            self._keep(run)
        group.modified_at = now()
        _wake(group)
        return runs

    def _keep(self, run: Run) -> Run:
        run.will_fail = run.will_fail or self._panel.switches.fail_marker in run.request.text
        self.runs[run.run_id] = run
        return run

    def start(self, runs: list[Run]) -> None:
        """Sets queued runs going, unless the switches hold them back."""
        switches = self._panel.switches
        if switches.hold:
            return
        for run in runs:
            least, most = switches.duration
            seconds = dice(switches.seed, "duration", run.request.text).uniform(least, most)
            if seconds == 0:
                self._run(run, 0)
            elif run.status == "queued" and run.timer is None:
                self._after(seconds * QUEUED_SHARE, run, self._run, seconds * (1 - QUEUED_SHARE))

    def release(self) -> None:
        """Sets going what was held back."""
        self.start([run for run in self.runs.values() if run.status == "queued"])

    def _after(self, seconds: float, run: Run, then: Callable[..., None], *more: float) -> None:
        delay = seconds / self._panel.switches.speed
        run.timer = asyncio.get_running_loop().call_later(delay, then, run, *more)

    def _run(self, run: Run, seconds: float) -> None:
        self._move(run, "running")
        if self._panel.switches.stuck_marker in run.request.text:
            return
        if seconds == 0:
            self._finish(run)
        else:
            self._after(seconds, run, self._finish)

    def _finish(self, run: Run) -> None:
        status: RunStatus = "failed" if run.will_fail else "completed"
        if run.group is not None:
            run.late = (
                status == "completed"
                and run.group.counts["completed"] < self._panel.switches.parallel_late_outputs
            )
            run.group.ended.append(run)
        self._move(run, status)
        self._announce(run)

    def _move(self, run: Run, status: RunStatus) -> None:
        _stop(run)
        if run.group is not None:
            run.group.counts[run.status] -= 1
            run.group.counts[status] += 1
        run.status, run.modified_at = status, now()
        _wake(run)
        if run.group is not None:
            run.group.modified_at = run.modified_at
            _wake(run.group)

    def clear(self) -> None:
        """Forgets everything; what was going on ends without a word, and who waits is woken."""
        for run in self.runs.values():
            _stop(run)
            run.status = "cancelled"
            _wake(run)
        for group in self.groups.values():
            group.counts.clear()
            _wake(group)
        self.runs.clear()
        self.groups.clear()


def _stop(run: Run) -> None:
    if run.timer is not None:
        run.timer.cancel()
        run.timer = None


def _wake(kept: Run | Group) -> None:
    """Wakes who waits for a change; who waits from now on waits for the next one."""
    kept.changed.set()
    kept.changed = asyncio.Event()
