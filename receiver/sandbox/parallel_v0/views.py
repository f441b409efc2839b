"""Batches and runs as JSON of v0; contracts/parallel.md, section 1.2, has the run object."""

from typing import Any, get_args

from receiver.sandbox.parallel_v0.records import V0Batch, V0Run, V0RunStatus
from receiver.sandbox.responses import given


def run(run: V0Run) -> dict[str, Any]:
    """Return the run object: the answer of its status, a row of the export, a callback's body."""
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


def created_batch(batch: V0Batch) -> dict[str, Any]:
    """Return the answer to the creation of a batch; its time has no zone."""
    return {
        "task_id": batch.task.task_id,
        "batch_run_id": batch.batch_run_id,
        "run_ids": [run.run_id for run in batch.runs],
        "created_at": batch.created_at.replace(tzinfo=None).isoformat(timespec="microseconds"),
    }


def status_map(batch: V0Batch) -> dict[str, list[str]]:
    """Return the ids of the runs by status; a status without runs is absent."""
    found: dict[str, list[str]] = {status: [] for status in get_args(V0RunStatus)}
    for run in batch.runs:
        found[run.status].append(run.run_id)
    return {status: ids for status, ids in found.items() if ids}
