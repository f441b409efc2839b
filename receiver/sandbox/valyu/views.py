"""Batches and tasks as JSON, in the shapes of the contract and of the switches."""

from typing import Any

from receiver.sandbox import content
from receiver.sandbox.responses import given
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu import checkpoints
from receiver.sandbox.valyu.records import TASK_STATUSES, ValyuBatch, ValyuTask
from receiver.sandbox.valyu.requests import CreateValyuTask
from receiver.sandbox.valyu.results import PRICES, result, stamp


def counts(batch: ValyuBatch) -> dict[str, int]:
    """Return all six counts of a batch."""
    return {"total": len(batch.tasks)} | {each: batch.counts[each] for each in TASK_STATUSES}


def batch(batch: ValyuBatch, switches: Switches) -> dict[str, Any]:
    """Return the Batch object: the answer of its status, and the usual body of its webhook."""
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


def created_batch(created: ValyuBatch, switches: Switches) -> dict[str, Any]:
    """Return the answer to the creation of a batch, the only one with its secret."""
    shown = batch(created, switches)
    for absent in ("webhook_url", "metadata"):
        shown.pop(absent, None)
    return shown | given(
        webhook_secret=created.secret,
        brand_collection_id=created.request.brand_collection_id,
    )


def added_task(task: ValyuTask) -> dict[str, Any]:
    """Return a task as the answer to its addition to a batch shows it."""
    return given(task_id=task.task_id, deepresearch_id=task.deepresearch_id, status=task.status)


def created_task(task: ValyuTask, switches: Switches) -> dict[str, Any]:
    """Return the answer to the creation of a single task, the only one with its secret."""
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


def _mode(task: ValyuTask, switches: Switches) -> dict[str, str]:
    return {"research_mode" if switches.research_mode_only else "mode": task.settings.mode}


def _completed_at(task: ValyuTask, switches: Switches) -> str | None:
    shown = task.status == "completed" or switches.completed_at_on_failed
    return stamp(task.ended_at) if task.ended_at and shown else None


def listed_task(task: ValyuTask, panel: Panel, *, include_output: bool) -> dict[str, Any]:
    """Return a task as the list of its batch's tasks shows it."""
    light = given(
        deepresearch_id=task.deepresearch_id,
        task_id=task.task_id,
        query=task.query,
        status=task.status,
        created_at=stamp(task.created_at),
        completed_at=_completed_at(task, panel.switches),
    )
    return light | (result(task, panel) if include_output else {})


def summary(task: ValyuTask) -> dict[str, Any]:
    """Return a task as the list of all tasks shows it."""
    return given(
        deepresearch_id=task.deepresearch_id,
        query=task.query,
        status=task.status,
        created_at=stamp(task.created_at),
        title=content.title(task.query) if task.status == "completed" else None,
        public=task.public,
    )


def task(task: ValyuTask, panel: Panel) -> dict[str, Any]:
    """Return the TaskStatus object: the answer of its status, and the usual webhook's body."""
    settings, switches = task.settings, panel.switches
    outcome = result(task, panel)
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
        tools=settings.tools if isinstance(settings, CreateValyuTask) else None,
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


def _checkpoints(task: ValyuTask) -> dict[str, Any]:
    if not isinstance(task.settings, CreateValyuTask) or not task.settings.hitl.checkpoints:
        return {}
    return {"hitl_config": task.settings.hitl.model_dump()} | checkpoints.shown(task)
