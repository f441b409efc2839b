"""State of Valyu: its batches and tasks, and the course that each takes to its end.

A task is queued, then running, then completed, failed or cancelled. One planned call at a time
drives it, or none if tasks take no time. It stops at each of its checkpoints until it is answered.
Only `_move`, on the event loop, changes a status: the counts of a batch agree with its tasks.
"""

import secrets
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from receiver.sandbox.content import dice
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Panel
from receiver.sandbox.valyu import checkpoints
from receiver.sandbox.valyu.records import DONE, TaskStatus, ValyuBatch, ValyuTask
from receiver.sandbox.valyu.requests import BatchTask, CreateValyuBatch, CreateValyuTask

QUEUED_SHARE = 0.2
"""Part of a task's time for which it is queued; it runs for the rest."""


class Research:
    """All batches and tasks; calls `announce` with each whose end the sender announces."""

    def __init__(self, panel: Panel, announce: Callable[[ValyuTask | ValyuBatch], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.batches: dict[str, ValyuBatch] = {}
        self.tasks: dict[str, ValyuTask] = {}

    def batch(self, batch_id: str) -> ValyuBatch:
        """Return the batch with this id; an unknown id is a 404."""
        if (batch := self.batches.get(batch_id)) is None:
            raise Refusal(404, "Batch not found")
        return batch

    def task(self, deepresearch_id: str) -> ValyuTask:
        """Return the task with this id, alone or in a batch; an unknown id is a 404."""
        if (task := self.tasks.get(deepresearch_id)) is None:
            raise Refusal(404, "Task not found")
        return task

    def create_batch(self, request: CreateValyuBatch, *, origin: str) -> ValyuBatch:
        """Make an open batch without tasks; it has a secret only if it has a webhook URL."""
        secret = _secret_for(request.webhook_url)
        batch = ValyuBatch(request, secret, origin, self._panel.clock.now())
        self.batches[batch.batch_id] = batch
        return batch

    def create_task(self, request: CreateValyuTask, *, origin: str) -> ValyuTask:
        """Make a queued single task, which `start` starts."""
        task = ValyuTask(
            query=request.query,
            settings=request,
            metadata=request.metadata,
            origin=origin,
            created_at=self._panel.clock.now(),
            secret=_secret_for(request.webhook_url),
            checkpoints=request.hitl.checkpoints,
        )
        return self._keep(task)

    def add_tasks(self, batch: ValyuBatch, wanted: list[BatchTask]) -> list[ValyuTask]:
        """Add queued tasks to a batch, all of them or none; `start` starts them."""
        self._check_room(batch, wanted)
        _stop(batch)
        batch.status, batch.completed_at = "processing", None
        return [self._add_task(batch, each) for each in wanted]

    def _check_room(self, batch: ValyuBatch, wanted: list[BatchTask]) -> None:
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

    def _add_task(self, batch: ValyuBatch, wanted: BatchTask) -> ValyuTask:
        task = ValyuTask(
            query=wanted.query,
            settings=batch.request,
            metadata=wanted.metadata,
            origin=batch.origin,
            created_at=self._panel.clock.now(),
            batch=batch,
            task_id=wanted.id,
            will_fail=len(batch.tasks) < self._panel.switches.failing_tasks,
        )
        batch.tasks.append(task)
        batch.counts["queued"] += 1
        return self._keep(task)

    def _keep(self, task: ValyuTask) -> ValyuTask:
        task.will_fail = task.will_fail or self._panel.switches.fail_marker in task.query
        self.tasks[task.deepresearch_id] = task
        return task

    def start(self, tasks: list[ValyuTask]) -> None:
        """Start queued tasks, unless the switch `hold` keeps them queued."""
        switches = self._panel.switches
        if switches.hold:
            return
        with self._panel.clock.stopped():
            for task in tasks:
                self._start(task, dice(switches.seed, "duration", task.query))

    def _start(self, task: ValyuTask, chance: Random) -> None:
        seconds = chance.uniform(*self._panel.switches.duration)
        if seconds == 0:
            self._run(task, 0)
        elif task.status == "queued" and task.timer is None:
            run = partial(self._run, task, seconds * (1 - QUEUED_SHARE))
            self._after(seconds * QUEUED_SHARE, task, run)

    def release(self) -> None:
        """Start all tasks that are still queued."""
        self.start([task for task in self.tasks.values() if task.status == "queued"])

    def _after(
        self, seconds: float, timed: ValyuTask | ValyuBatch, then: Callable[[], None]
    ) -> None:
        delay = seconds / self._panel.switches.speed
        timed.timer = self._panel.clock.call_after(delay, then)

    def _run(self, task: ValyuTask, seconds: float) -> None:
        self._move(task, "running")
        if self._panel.switches.stuck_marker in task.query:
            return
        task.seconds = seconds
        then = self._ask if task.checkpoints else self._finish
        if seconds == 0:
            then(task)
        else:
            self._after(seconds, task, partial(then, task))

    def _ask(self, task: ValyuTask) -> None:
        switches = self._panel.switches
        self._move(task, "awaiting_input")
        checkpoints.open_next(task, seconds=switches.hitl_timeout, at=self._panel.clock.now())
        self._after(switches.hitl_timeout, task, partial(self._pause, task))
        if switches.webhook_on_input:
            self._announce(task)

    def _pause(self, task: ValyuTask) -> None:
        self._move(task, "paused")
        if self._panel.switches.webhook_on_input:
            self._announce(task)

    def respond(self, task: ValyuTask, body: dict[str, Any]) -> None:
        """Answer the open checkpoint of a task, which then goes on; another checkpoint is a 409."""
        checkpoints.close(task, body, at=self._panel.clock.now())
        self._run(task, task.seconds)

    def _finish(self, task: ValyuTask) -> None:
        self._end_task(task, "failed" if task.will_fail else "completed")

    def _end_task(self, task: ValyuTask, status: TaskStatus) -> None:
        self._move(task, status)
        task.ended_at = self._panel.clock.now()
        switches = self._panel.switches
        is_announced = status != "cancelled" or switches.webhook_on_cancel
        if is_announced and (task.batch is None or switches.task_webhooks):
            self._announce(task)
        if task.batch is not None:
            self._end_batch_soon(task.batch)

    def _move(self, task: ValyuTask, status: TaskStatus) -> None:
        _stop(task)
        if task.batch is not None:
            task.batch.counts[task.status] -= 1
            task.batch.counts[status] += 1
        task.status = status

    def _end_batch_soon(self, batch: ValyuBatch) -> None:
        going = batch.counts["queued"] + batch.counts["running"]
        if going or batch.status != "processing":
            return
        _stop(batch)
        switches = self._panel.switches
        if switches.settle == 0:
            self._end_batch(batch)
        else:
            self._after(switches.settle, batch, partial(self._end_batch, batch))

    def _end_batch(self, batch: ValyuBatch) -> None:
        if batch.counts["failed"]:
            batch.status = "completed_with_errors"
        elif batch.counts["cancelled"]:
            batch.status = self._panel.switches.end_after_single_cancel
        else:
            batch.status = "completed"
        batch.completed_at = self._panel.clock.now()
        self._announce(batch)

    def cancel_task(self, task: ValyuTask) -> None:
        """Cancel a task; one that is done is a 400."""
        if task.status in DONE:
            raise Refusal(400, f"Cannot cancel a task that is {task.status}")
        self._end_task(task, "cancelled")

    def cancel_batch(self, batch: ValyuBatch) -> int:
        """Cancel a batch, and return the number of its tasks that were cancelled with it.

        A batch that has ended is a 400.
        """
        if batch.status not in ("open", "processing"):
            raise Refusal(400, f"Cannot cancel a batch that is {batch.status}")
        _stop(batch)
        # Before the tasks, or the last of them would end the batch a second time.
        batch.status, batch.completed_at = "cancelled", self._panel.clock.now()
        kept = {"running"} if self._panel.switches.cancel_keeps_running else set()
        going = [task for task in batch.tasks if task.status not in DONE | kept]
        for task in going:
            self._end_task(task, "cancelled")
        if self._panel.switches.webhook_on_cancel:
            self._announce(batch)
        return len(going)

    def delete_task(self, task: ValyuTask) -> None:
        """Forget a task; one that is not done is a 400. Its batch continues to list it."""
        if task.status not in DONE:
            raise Refusal(400, f"Cannot delete a task that is {task.status}")
        del self.tasks[task.deepresearch_id]

    def clear(self) -> None:
        """Forget everything, and announce nothing more."""
        for task in self.tasks.values():
            _stop(task)
        for batch in self.batches.values():
            _stop(batch)
        self.tasks.clear()
        self.batches.clear()


def _stop(timed: ValyuTask | ValyuBatch) -> None:
    if timed.timer is not None:
        timed.timer.cancel()
        timed.timer = None


def _secret_for(webhook_url: str | None) -> str | None:
    return None if webhook_url is None else secrets.token_hex(32)
