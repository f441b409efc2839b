"""The state behind the v0 API: tasks, batches and runs, and how runs come to their ends.

A run goes queued -> running -> complete | failed, or stops where a marker in its text says so; it
is driven by one timer at a time, or by none when runs take no time. A batch is no more than its
runs. Everything here runs on one event loop.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from receiver.sandbox import content
from receiver.sandbox.answers import Refusal
from receiver.sandbox.parallel_v0.output import filled, output, says
from receiver.sandbox.parallel_v0.records import Batch, Run, RunStatus, Task
from receiver.sandbox.parallel_v0.requests import CreateBatch, CreateRun, CreateTask, RunRequest
from receiver.sandbox.switches import Panel

# What is left of a run's time is spent running.
QUEUED_SHARE = 0.2


class Runs:
    """All tasks, batches and runs of v0; calls `announce` with each run that is to be announced."""

    def __init__(self, panel: Panel, announce: Callable[[Run], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.tasks: dict[str, Task] = {}
        self.batches: dict[str, Batch] = {}
        self.runs: dict[str, Run] = {}

    def task(self, task_id: str) -> Task:
        """The task of that id; a 404 if there is none."""
        if (task := self.tasks.get(task_id)) is None:
            raise Refusal(404, "Task not found")
        return task

    def batch(self, task_id: str, batch_run_id: str) -> Batch:
        """The batch of that id; a 404 if that task has none."""
        batch = self.batches.get(batch_run_id)
        if batch is None or batch.task is not self.task(task_id):
            raise Refusal(404, "Batch not found")
        return batch

    def run(self, task_id: str, run_id: str) -> Run:
        """The run of that id, alone or of a batch; a 404 if that task has none."""
        run = self.runs.get(run_id)
        if run is None or run.task is not self.task(task_id):
            raise Refusal(404, "Run not found")
        return run

    def create_task(self, request: CreateTask) -> Task:
        """A stored task, of which nothing runs yet."""
        task = Task(request)
        self.tasks[task.task_id] = task
        return task

    def create_run(self, task: Task, runner: str, request: CreateRun) -> Run:
        """A queued run of its own; `start` sets it going."""
        wanted = RunRequest(
            arguments=request.arguments, runner=runner, callback_webhook=request.callback_webhook
        )
        return self._keep(self._made(task, wanted))

    def create_batch(self, task: Task, request: CreateBatch) -> Batch:
        """A batch with a queued run for each request, all or none; `start` sets them going."""
        batch = Batch(task)
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
        task: Task,
        wanted: RunRequest,
        *,
        runner: str | None = None,
        batch: Batch | None = None,
    ) -> Run:
        """A run that could be kept; a 422 for want of a runner or of an argument."""
        runner = wanted.runner or runner or task.request.processor
        if runner is None:
            raise Refusal(422, "runner: neither the batch, the run nor the task names one")
        for name in task.request.input_schema.required:
            if name not in wanted.arguments:
                raise Refusal(422, f"arguments.{name}: the task's input_schema requires it")
        text = filled(task.request.prompt, wanted.arguments)
        run = Run(task, runner, wanted.arguments, text, wanted.callback_webhook, batch)
        run.will_fail = says(run, self._panel.switches.fail_marker)
        return run

    def _keep(self, run: Run) -> Run:
        self.runs[run.run_id] = run
        return run

    def start(self, runs: list[Run]) -> None:
        """Sets queued runs going, unless the switches hold them back."""
        switches = self._panel.switches
        if switches.hold:
            return
        for run in runs:
            if run.status == "queued" and run.timer is None:
                chance = content.dice(switches.seed, "duration", run.text)
                seconds = chance.uniform(*switches.duration)
                rest = seconds * (1 - QUEUED_SHARE)
                self._after(seconds * QUEUED_SHARE, run, partial(self._go, seconds=rest))

    def release(self) -> None:
        """Sets going what was held back."""
        self.start([run for run in self.runs.values() if run.status == "queued"])

    def _after(self, seconds: float, run: Run, then: Callable[[Run], None]) -> None:
        if seconds == 0:
            then(run)
        else:
            delay = seconds / self._panel.switches.speed
            run.timer = asyncio.get_running_loop().call_later(delay, then, run)

    def _go(self, run: Run, seconds: float) -> None:
        switches = self._panel.switches
        _move(run, "running")
        if says(run, switches.v0_tools_marker):
            _move(run, "awaiting_tool_calls")
        elif says(run, switches.v0_cancel_marker):
            _move(run, "cancelling")
            self._after(seconds, run, self._cancelled)
        elif not says(run, switches.stuck_marker):
            self._after(seconds, run, self._finish)

    def _finish(self, run: Run) -> None:
        switches = self._panel.switches
        if run.will_fail:
            run.error = content.failure(run.text, seed=switches.seed)
            self._end(run, "failed", told=switches.v0_callback_on_failed)
        else:
            run.output = output(run, switches)
            self._end(run, "complete", told=True)

    def _cancelled(self, run: Run) -> None:
        self._end(run, "cancelled", told=self._panel.switches.webhook_on_cancel)

    def _end(self, run: Run, status: RunStatus, *, told: bool) -> None:
        _move(run, status)
        if run.ended is not None:
            run.ended.set()
        if told:
            self._announce(run)

    def clear(self) -> None:
        """Forgets everything; what was going on ends without a word, and nobody waits for it."""
        for run in self.runs.values():
            _stop(run)
            if run.ended is not None:
                run.ended.set()
        self.tasks.clear()
        self.batches.clear()
        self.runs.clear()


def _move(run: Run, status: RunStatus) -> None:
    _stop(run)
    run.status = status


def _stop(run: Run) -> None:
    if run.timer is not None:
        run.timer.cancel()
        run.timer = None
