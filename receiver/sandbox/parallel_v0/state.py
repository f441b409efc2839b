"""State of v0: its tasks, batches and runs, and the course that each run takes to its end.

A run is queued, then running, then complete or failed; a marker in its text makes it stop before or
end otherwise. One planned call at a time drives it, or none if runs take no time. A batch is only
its runs. Everything here runs on one event loop.
"""

from collections.abc import Callable
from functools import partial

from receiver.sandbox import content
from receiver.sandbox.parallel_v0.output import contains, filled, output
from receiver.sandbox.parallel_v0.records import V0Batch, V0Run, V0RunStatus, V0Task
from receiver.sandbox.parallel_v0.requests import (
    CreateV0Batch,
    CreateV0Run,
    CreateV0Task,
    RunRequest,
)
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Panel

QUEUED_SHARE = 0.2
"""Part of a run's time for which it is queued; it runs for the rest."""


class V0Runs:
    """All tasks, batches and runs; calls `announce` with each run whose end is called back."""

    def __init__(self, panel: Panel, announce: Callable[[V0Run], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.tasks: dict[str, V0Task] = {}
        self.batches: dict[str, V0Batch] = {}
        self.runs: dict[str, V0Run] = {}

    def task(self, task_id: str) -> V0Task:
        """Return the task with this id; an unknown id is a 404."""
        if (task := self.tasks.get(task_id)) is None:
            raise Refusal(404, "Task not found")
        return task

    def batch(self, task_id: str, batch_run_id: str) -> V0Batch:
        """Return the batch of a task with this id; an unknown id is a 404."""
        batch = self.batches.get(batch_run_id)
        if batch is None or batch.task is not self.task(task_id):
            raise Refusal(404, "Batch not found")
        return batch

    def run(self, task_id: str, run_id: str) -> V0Run:
        """Return the run of a task with this id, alone or in a batch; an unknown id is a 404."""
        run = self.runs.get(run_id)
        if run is None or run.task is not self.task(task_id):
            raise Refusal(404, "Run not found")
        return run

    def create_task(self, request: CreateV0Task) -> V0Task:
        """Store a task, of which nothing runs yet."""
        task = V0Task(request)
        self.tasks[task.task_id] = task
        return task

    def create_run(self, task: V0Task, runner: str, request: CreateV0Run) -> V0Run:
        """Make a queued single run, which `start` starts."""
        wanted = RunRequest(
            arguments=request.arguments, runner=runner, callback_webhook=request.callback_webhook
        )
        return self._keep(self._made(task, wanted))

    def create_batch(self, task: V0Task, request: CreateV0Batch) -> V0Batch:
        """Make a batch with a queued run for each request, or nothing; `start` starts the runs."""
        batch = V0Batch(task, self._panel.clock.now())
        batch.runs = [
            self._made(task, each, runner=request.runner, batch=batch)
            for each in request.task_run_requests
        ]
        for run in batch.runs[: self._panel.switches.failing_tasks]:
            run.will_fail = True
        for run in batch.runs:
            self._keep(run)
        self.batches[batch.batch_run_id] = batch
        return batch

    def _made(
        self,
        task: V0Task,
        wanted: RunRequest,
        *,
        runner: str | None = None,
        batch: V0Batch | None = None,
    ) -> V0Run:
        """Make a run; one without a runner or without a required argument is a 422."""
        runner = wanted.runner or runner or task.request.processor
        if runner is None:
            raise Refusal(422, "runner: neither the batch, the run nor the task names one")
        for name in task.request.input_schema.required:
            if name not in wanted.arguments:
                raise Refusal(422, f"arguments.{name}: the task's input_schema requires it")
        text = filled(task.request.prompt, wanted.arguments)
        run = V0Run(task, runner, wanted.arguments, text, wanted.callback_webhook, batch)
        run.will_fail = contains(run, self._panel.switches.fail_marker)
        return run

    def _keep(self, run: V0Run) -> V0Run:
        self.runs[run.run_id] = run
        return run

    def start(self, runs: list[V0Run]) -> None:
        """Start queued runs, unless the switch `hold` keeps them queued."""
        switches = self._panel.switches
        if switches.hold:
            return
        with self._panel.clock.stopped():
            for run in runs:
                if run.status == "queued" and run.timer is None:
                    chance = content.dice(switches.seed, "duration", run.text)
                    self._start(run, chance.uniform(*switches.duration))

    def _start(self, run: V0Run, seconds: float) -> None:
        rest = seconds * (1 - QUEUED_SHARE)
        self._after(seconds * QUEUED_SHARE, run, partial(self._run, seconds=rest))

    def release(self) -> None:
        """Start all runs that are still queued."""
        self.start([run for run in self.runs.values() if run.status == "queued"])

    def _after(self, seconds: float, run: V0Run, then: Callable[[V0Run], None]) -> None:
        if seconds == 0:
            then(run)
        else:
            delay = seconds / self._panel.switches.speed
            run.timer = self._panel.clock.call_after(delay, partial(then, run))

    def _run(self, run: V0Run, seconds: float) -> None:
        switches = self._panel.switches
        _move(run, "running")
        if contains(run, switches.v0_tools_marker):
            _move(run, "awaiting_tool_calls")
        elif contains(run, switches.v0_cancel_marker):
            _move(run, "cancelling")
            self._after(seconds, run, self._cancelled)
        elif not contains(run, switches.stuck_marker):
            self._after(seconds, run, self._finish)

    def _finish(self, run: V0Run) -> None:
        switches = self._panel.switches
        if run.will_fail:
            run.error = content.failure(run.text, seed=switches.seed)
            self._end(run, "failed", is_announced=switches.v0_callback_on_failed)
        else:
            run.output = output(run, switches)
            self._end(run, "complete", is_announced=True)

    def _cancelled(self, run: V0Run) -> None:
        self._end(run, "cancelled", is_announced=self._panel.switches.webhook_on_cancel)

    def _end(self, run: V0Run, status: V0RunStatus, *, is_announced: bool) -> None:
        _move(run, status)
        run.ended.set()
        if is_announced:
            self._announce(run)

    def clear(self) -> None:
        """Forget everything, announce nothing more, and wake every request that waits."""
        for run in self.runs.values():
            _stop(run)
            run.ended.set()
        self.tasks.clear()
        self.batches.clear()
        self.runs.clear()


def _move(run: V0Run, status: V0RunStatus) -> None:
    _stop(run)
    run.status = status


def _stop(run: V0Run) -> None:
    if run.timer is not None:
        run.timer.cancel()
        run.timer = None
