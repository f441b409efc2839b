"""Runs and groups as JSON, in the shapes of the contract and of the switches."""

import uuid
from datetime import datetime
from typing import Any

from receiver.sandbox.parallel.records import ParallelGroup, ParallelRun
from receiver.sandbox.parallel.requests import STATUSES
from receiver.sandbox.switches import Switches


def stamp(moment: datetime) -> str:
    """Return a time as Parallel writes it: 2026-03-02T10:00:00.000000Z."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def run(run: ParallelRun, switches: Switches) -> dict[str, Any]:
    """Return the TaskRun object: the answer of its status, and the `data` of its webhook."""
    shown = {
        "run_id": run.run_id,
        "interaction_id": run.run_id,
        "status": run.status,
        "is_active": run.is_active,
        "warnings": None,
        "error": _error(run, switches) if run.status == "failed" else None,
        "processor": run.request.processor,
        "metadata": run.request.metadata,
        "taskgroup_id": run.group.group_id if run.group else None,
        "created_at": stamp(run.created_at),
        "modified_at": stamp(run.modified_at),
    }
    if switches.parallel_old_runs:
        del shown["interaction_id"], shown["taskgroup_id"]
    return shown


def _error(run: ParallelRun, switches: Switches) -> dict[str, Any]:
    ref = uuid.UUID(run.run_id.removeprefix("trun_"))
    detail = "details" if switches.parallel_details else "detail"
    return {"ref_id": str(ref), "message": "Task execution failed", detail: None}


def sent(run: ParallelRun) -> dict[str, Any]:
    """Return the request of a run as streams repeat it, without its webhook."""
    return {name: value for name, value in run.sent.items() if name != "webhook"}


def group_status(group: ParallelGroup, switches: Switches) -> dict[str, Any]:
    """Return the present status of a group; it counts only statuses that have runs."""
    return {
        "num_task_runs": len(group.runs),
        "task_run_status_counts": {
            status: group.counts[status] for status in STATUSES if group.counts[status]
        },
        "is_active": group.is_active and not switches.parallel_early_inactive,
        "status_message": None,
        "modified_at": stamp(group.modified_at),
    }


def group(group: ParallelGroup, status: dict[str, Any]) -> dict[str, Any]:
    """Return the TaskGroup object, with a status that may be an old one."""
    return {
        "taskgroup_id": group.group_id,
        "metadata": group.metadata,
        "status": status,
        "created_at": stamp(group.created_at),
    }
