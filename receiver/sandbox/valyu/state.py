"""The state behind the API: batches and tasks, and how they come to their ends.

A task goes queued -> running -> completed | failed | cancelled, driven by one timer at a time, or
by none when tasks take no time. One with checkpoints stops at each of them until it is answered.
`_move` is the only place that changes a status, so the counts of a batch always agree with its
tasks. Everything here runs on one event loop.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from receiver.sandbox.answers import Refusal
from receiver.sandbox.content import dice
from receiver.sandbox.switches import Panel
from receiver.sandbox.valyu import checkpoints
from receiver.sandbox.valyu.records import DONE, Batch, Task, TaskStatus, now
from receiver.sandbox.valyu.requests import BatchTask, CreateBatch, CreateTask

# What is left of a task's time is spent running.
QUEUED_SHARE = 0.2


class Research:
    """All batches and tasks; calls `announce` with each that has ended and is to be announced."""

    def __init__(self, panel: Panel, announce: Callable[[Task | Batch], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.batches: dict[str, Batch] = {}
        self.tasks: dict[str, Task] = {}

    def batch(self, batch_id: str) -> Batch:
        """The batch of that id; a 404 if there is none."""
        if (batch := self.batches.get(batch_id)) is None:
            raise Refusal(404, "Batch not found")
        return batch

    def task(self, deepresearch_id: str) -> Task:
        """The task of that id, alone or of a batch; a 404 if there is none."""
        if (task := self.tasks.get(deepresearch_id)) is None:
            raise Refusal(404, "Task not found")
        return task

    def create_batch(self, request: CreateBatch, *, origin: str) -> Batch:
        """An open batch without tasks; its secret exists only if it has a webhook."""
        batch = Batch(request, _secret_for(request.webhook_url), origin)
        self.batches[batch.batch_id] = batch
        return batch

    def create_task(self, request: CreateTask, *, origin: str) -> Task:
        """A queued task of its own; `start` sets it going."""
        task = Task(
            query=request.query,
            settings=request,
            metadata=request.metadata,
            origin=origin,
            secret=_secret_for(request.webhook_url),
            checkpoints=request.hitl.checkpoints,
        )
        return self._keep(task)

    def add_tasks(self, batch: Batch, wanted: list[BatchTask]) -> list[Task]:
        """Queued tasks in a batch, all or none of those asked for; `start` sets them going."""
        self._check_room(batch, wanted)
        _stop(batch)
        batch.status, batch.completed_at = "processing", None
        return [self._add_task(batch, each) for each in wanted]

    def _check_room(self, batch: Batch, wanted: list[BatchTask]) -> None:
        switches = self._panel.switches
        ended = batch.status in ("completed", "completed_with_errors")
        if batch.status == "cancelled" or (ended and not switches.add_after_end):
            raise Refusal(400, f"Cannot add tasks to a batch that is {batch.status}")
        most = switches.max_batch_tasks
        if most is not None and len(batch.tasks) + len(wanted) > most:
            raise Refusal(400, f"A batch takes at most {most} tasks")
        if switches.refuse_duplicate_ids:
            ids = [task.id for task in wanted if task.id is not None]
            if len(set(ids)) < len(ids) or {task.task_id for task in batch.tasks} & set(ids):
                raise Refusal(400, "Task ids must be unique within a batch")

    def _add_task(self, batch: Batch, wanted: BatchTask) -> Task:
        task = Task(
            query=wanted.query,
            settings=batch.request,
            metadata=wanted.metadata,
            origin=batch.origin,
            batch=batch,
            task_id=wanted.id,
            will_fail=len(batch.tasks) < self._panel.switches.failing_tasks,
        )
        batch.tasks.append(task)
        batch.counts["queued"] += 1
        return self._keep(task)

    def _keep(self, task: Task) -> Task:
        task.will_fail = task.will_fail or self._panel.switches.fail_marker in task.query
        self.tasks[task.deepresearch_id] = task
        return task

    def start(self, tasks: list[Task]) -> None:
        """Sets queued tasks going, unless the switches hold them back."""
        switches = self._panel.switches
        if switches.hold:
            return
        for task in tasks:
            least, most = switches.duration
            seconds = dice(switches.seed, "duration", task.query).uniform(least, most)
            if seconds == 0:
                self._run(task, 0)
            elif task.status == "queued" and task.timer is None:
                self._after(seconds * QUEUED_SHARE, task, self._run, seconds * (1 - QUEUED_SHARE))

    def release(self) -> None:
        """Sets going what was held back."""
        self.start([task for task in self.tasks.values() if task.status == "queued"])

    def _after(self, seconds: float, task: Task, then: Callable[..., None], *more: float) -> None:
        delay = seconds / self._panel.switches.speed
        task.timer = asyncio.get_running_loop().call_later(delay, then, task, *more)

    def _run(self, task: Task, seconds: float) -> None:
        self._move(task, "running")
        if self._panel.switches.stuck_marker in task.query:
            return
        task.seconds = seconds
        then = self._ask if task.checkpoints else self._finish
        if seconds == 0:
            then(task)
        else:
            self._after(seconds, task, then)

    def _ask(self, task: Task) -> None:
        switches = self._panel.switches
        self._move(task, "awaiting_input")
        checkpoints.ask(task, seconds=switches.hitl_timeout)
        self._after(switches.hitl_timeout, task, self._pause)
        if switches.webhook_on_input:
            self._announce(task)

    def _pause(self, task: Task) -> None:
        self._move(task, "paused")
        if self._panel.switches.webhook_on_input:
            self._announce(task)

    def respond(self, task: Task, body: dict[str, Any]) -> None:
        """Answers the open checkpoint of a task, which then goes on; a 409 if there is none."""
        checkpoints.answer(task, body)
        self._run(task, task.seconds)

    def _finish(self, task: Task) -> None:
        self._end_task(task, "failed" if task.will_fail else "completed")

    def _end_task(self, task: Task, status: TaskStatus) -> None:
        self._move(task, status)
        task.ended_at = now()
        switches = self._panel.switches
        told = status != "cancelled" or switches.webhook_on_cancel
        if told and (task.batch is None or switches.task_webhooks):
            self._announce(task)
        if task.batch is not None:
            self._end_batch_soon(task.batch)

    def _move(self, task: Task, status: TaskStatus) -> None:
        _stop(task)
        if task.batch is not None:
            task.batch.counts[task.status] -= 1
            task.batch.counts[status] += 1
        task.status = status

    def _end_batch_soon(self, batch: Batch) -> None:
        going = batch.counts["queued"] + batch.counts["running"]
        if going or batch.status != "processing":
            return
        _stop(batch)
        switches = self._panel.switches
        if switches.settle == 0:
            self._end_batch(batch)
        else:
            delay = switches.settle / switches.speed
            batch.timer = asyncio.get_running_loop().call_later(delay, self._end_batch, batch)

    def _end_batch(self, batch: Batch) -> None:
        if batch.counts["failed"]:
            batch.status = "completed_with_errors"
        elif batch.counts["cancelled"]:
            batch.status = self._panel.switches.end_after_single_cancel
        else:
            batch.status = "completed"
        batch.completed_at = now()
        self._announce(batch)

    def cancel_task(self, task: Task) -> None:
        """Ends a task that is not done; a 400 if it is."""
        if task.status in DONE:
            raise Refusal(400, f"Cannot cancel a task that is {task.status}")
        self._end_task(task, "cancelled")

    def cancel_batch(self, batch: Batch) -> int:
        """Ends an open or processing batch; says how many tasks were cancelled with it."""
        if batch.status not in ("open", "processing"):
            raise Refusal(400, f"Cannot cancel a batch that is {batch.status}")
        _stop(batch)
        # First, so that the last task to go does not end the batch a second time.
        batch.status, batch.completed_at = "cancelled", now()
        kept = {"running"} if self._panel.switches.cancel_keeps_running else set()
        going = [task for task in batch.tasks if task.status not in DONE | kept]
        for task in going:
            self._end_task(task, "cancelled")
        if self._panel.switches.webhook_on_cancel:
            self._announce(batch)
        return len(going)

    def delete_task(self, task: Task) -> None:
        """Forgets a task that is done, by itself; its batch goes on listing it."""
        if task.status not in DONE:
            raise Refusal(400, f"Cannot delete a task that is {task.status}")
        del self.tasks[task.deepresearch_id]

    def clear(self) -> None:
        """Forgets everything; what was going on ends without a word."""
        for task in self.tasks.values():
            _stop(task)
        for batch in self.batches.values():
            _stop(batch)
        self.tasks.clear()
        self.batches.clear()


def _stop(timed: Task | Batch) -> None:
    if timed.timer is not None:
        timed.timer.cancel()
        timed.timer = None


def _secret_for(webhook_url: str | None) -> str | None:
    return None if webhook_url is None else secrets.token_hex(32)
