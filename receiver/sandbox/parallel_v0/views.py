"""Batches and runs in the shapes of the v0 API; the run object is that of section 1.2."""

from typing import Any, get_args

from receiver.sandbox.parallel_v0.records import Batch, Run, RunStatus
from receiver.sandbox.valyu.results import given


def run(run: Run) -> dict[str, Any]:
    """The run object: the answer of its status, a row of the export, the body of its callback."""
    return given(
        task_id=run.task.task_id,
        batch_run_id=run.batch.batch_run_id if run.batch else None,
        run_id=run.run_id,
        status=run.status,
        runner=run.runner,
        input={"arguments": run.arguments},
        output=run.output,
        error=run.error,
    )


def created_batch(batch: Batch) -> dict[str, Any]:
    """The answer of creating a batch; its time has no zone."""
    return {
        "task_id": batch.task.task_id,
        "batch_run_id": batch.batch_run_id,
        "run_ids": [run.run_id for run in batch.runs],
        "created_at": batch.created_at.replace(tzinfo=None).isoformat(timespec="microseconds"),
    }


def status_map(batch: Batch) -> dict[str, list[str]]:
    """The ids of the runs by their status; a status without runs is not named."""
    found: dict[str, list[str]] = {status: [] for status in get_args(RunStatus)}
    for run in batch.runs:
        found[run.status].append(run.run_id)
    return {status: ids for status, ids in found.items() if ids}
