"""Batches and tasks in the shapes the contract shows, with what the switches say about them."""

from typing import Any

from receiver.sandbox import content
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu import checkpoints
from receiver.sandbox.valyu.records import TASK_STATUSES, Batch, Task
from receiver.sandbox.valyu.requests import CreateTask
from receiver.sandbox.valyu.results import PRICES, given, result, stamp


def counts(batch: Batch) -> dict[str, int]:
    """The counts of a batch: all six, always."""
    return {"total": len(batch.tasks)} | {each: batch.counts[each] for each in TASK_STATUSES}


def batch(batch: Batch, switches: Switches) -> dict[str, Any]:
    """The Batch object: the answer of its status, and the usual body of its webhook."""
    request = batch.request
    charged = batch.counts["completed"]
    if switches.failed_tasks_cost:
        charged += batch.counts["failed"]
    return given(
        batch_id=batch.batch_id,
        mode=request.mode,
        name=request.name,
        output_formats=request.output_formats,
        search_params=request.search_params,
        status=batch.status,
        counts=counts(batch),
        cost=charged * PRICES[request.mode],
        webhook_url=request.webhook_url,
        created_at=stamp(batch.created_at),
        metadata=request.metadata,
        completed_at=stamp(batch.completed_at) if batch.completed_at else None,
    )


def created_batch(created: Batch, switches: Switches) -> dict[str, Any]:
    """The answer of creating a batch: the only one with its secret."""
    shown = batch(created, switches)
    for absent in ("webhook_url", "metadata"):
        shown.pop(absent, None)
    return shown | given(
        webhook_secret=created.secret,
        brand_collection_id=created.request.brand_collection_id,
    )


def added_task(task: Task) -> dict[str, Any]:
    """A task in the answer of adding it to a batch."""
    return given(task_id=task.task_id, deepresearch_id=task.deepresearch_id, status=task.status)


def created_task(task: Task, switches: Switches) -> dict[str, Any]:
    """The answer of creating a single task: the only one with its secret."""
    return given(
        deepresearch_id=task.deepresearch_id,
        status=task.status,
        **_mode(task, switches),
        created_at=stamp(task.created_at),
        metadata=task.metadata,
        public=task.public,
        webhook_secret=task.secret,
        brand_collection_id=task.settings.brand_collection_id,
    )


def _mode(task: Task, switches: Switches) -> dict[str, str]:
    return {"research_mode" if switches.research_mode_only else "mode": task.settings.mode}


def _completed_at(task: Task, switches: Switches) -> str | None:
    shown = task.status == "completed" or switches.completed_at_on_failed
    return stamp(task.ended_at) if task.ended_at and shown else None


def listed_task(task: Task, switches: Switches, *, include_output: bool) -> dict[str, Any]:
    """A task in the list of its batch's tasks."""
    light = given(
        deepresearch_id=task.deepresearch_id,
        task_id=task.task_id,
        query=task.query,
        status=task.status,
        created_at=stamp(task.created_at),
        completed_at=_completed_at(task, switches),
    )
    return light | (result(task, switches) if include_output else {})


def summary(task: Task) -> dict[str, Any]:
    """A task in the list of all tasks."""
    return given(
        deepresearch_id=task.deepresearch_id,
        query=task.query,
        status=task.status,
        created_at=stamp(task.created_at),
        title=content.title(task.query) if task.status == "completed" else None,
        public=task.public,
    )


def task(task: Task, switches: Switches) -> dict[str, Any]:
    """The TaskStatus object: the answer of its status, and the usual body of its webhook."""
    settings = task.settings
    outcome = result(task, switches)
    completed = task.status == "completed"
    return given(
        deepresearch_id=task.deepresearch_id,
        status=task.status,
        query=task.query,
        **_mode(task, switches),
        output_formats=settings.output_formats,
        created_at=stamp(task.created_at),
        completed_at=_completed_at(task, switches),
        public=task.public,
        tools=settings.tools if isinstance(settings, CreateTask) else None,
        progress={"current_step": 1, "total_steps": 4} if task.status == "running" else None,
        messages=content.trace(task.query, count=switches.messages) if switches.messages else None,
        title=content.title(task.query) if completed else None,
        total_word_count=len(str(outcome["output"]).split()) if completed else None,
        **outcome,
        cost_breakdown={"task": outcome["cost"]} if completed else None,
        batch_id=task.batch.batch_id if task.batch else None,
        batch_task_id=task.task_id,
        metadata=task.metadata if switches.metadata_in_status else None,
        **_checkpoints(task),
    )


def _checkpoints(task: Task) -> dict[str, Any]:
    if not isinstance(task.settings, CreateTask) or not task.settings.hitl.checkpoints:
        return {}
    return {"hitl_config": task.settings.hitl.model_dump()} | checkpoints.shown(task)
