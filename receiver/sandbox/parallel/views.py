"""Runs and groups in the shapes the contract shows, with what the switches say about them."""

import uuid
from datetime import datetime
from typing import Any

from receiver.sandbox.parallel.records import Group, Run
from receiver.sandbox.parallel.requests import STATUSES
from receiver.sandbox.switches import Switches


def stamp(moment: datetime) -> str:
    """A time as Parallel writes it: 2026-03-02T10:00:00.000000Z."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def run(run: Run, switches: Switches) -> dict[str, Any]:
    """The TaskRun object: the answer of its status, and the `data` of its webhook."""
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


def _error(run: Run, switches: Switches) -> dict[str, Any]:
    ref = uuid.UUID(run.run_id.removeprefix("trun_"))
    detail = "details" if switches.parallel_details else "detail"
    return {"ref_id": str(ref), "message": "Task execution failed", detail: None}


def sent(run: Run) -> dict[str, Any]:
    """The request of a run as streams repeat it: as it came, but without its webhook."""
    return {name: value for name, value in run.sent.items() if name != "webhook"}


def group_status(group: Group, switches: Switches) -> dict[str, Any]:
    """The status of a group as it stands; only statuses that have runs are counted."""
    return {
        "num_task_runs": len(group.runs),
        "task_run_status_counts": {
            status: group.counts[status] for status in STATUSES if group.counts[status]
        },
        "is_active": group.is_active and not switches.parallel_early_inactive,
        "status_message": None,
        "modified_at": stamp(group.modified_at),
    }


def group(group: Group, status: dict[str, Any]) -> dict[str, Any]:
    """The TaskGroup object, with a status that may be an old one."""
    return {
        "taskgroup_id": group.group_id,
        "metadata": group.metadata,
        "status": status,
        "created_at": stamp(group.created_at),
    }
