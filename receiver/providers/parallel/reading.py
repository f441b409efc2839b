"""Reading Parallel's v1 answers and bodies, as leniently as identity allows."""

from collections.abc import Mapping
from dataclasses import replace

from receiver.json_values import counted, leniently, moment, text, whole, word
from receiver.providers.model import Announcement
from storage import TERMINAL, FetchedBatch, FetchedRun

# `is_active` does not tell: a run with action_required is not active, and has not ended.
STATUSES = {
    "queued": "queued",
    "running": "running",
    "action_required": "running",
    "cancelling": "running",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
FRUITLESS = frozenset({"failed", "cancelled"})
"""Ends after which there is no result to ask for."""


def announced(body: Mapping[str, object]) -> Announcement | None:
    """Return what a webhook announces: a run, or a resource that is not fetched."""
    data = body.get("data")
    if not isinstance(data, dict):
        return None
    kind = word(body.get("type")) or "unknown"
    if kind.startswith(("findall", "monitor")):
        resource = word(data.get("findall_id")) or word(data.get("monitor_id"))
        return Announcement(kind.partition(".")[0], resource or "unknown", is_end=False)
    run_id = word(data.get("run_id"))
    if run_id is None:
        return None
    status = word(data.get("status"))
    return Announcement(
        kind="run",
        resource=run_id,
        batch_id=_group_id(data),
        status=status,
        is_end=STATUSES.get(status or "", "completed") in TERMINAL,
    )


def group(data: Mapping[str, object]) -> FetchedBatch:
    """Read a task group, which has ended when it is inactive and its counts say so."""
    found = data.get("status")
    status: Mapping[str, object] = found if isinstance(found, dict) else {}
    counts = counted(status.get("task_run_status_counts"))
    total = whole(status.get("num_task_runs"))
    ended = None  # unknown where the counts do not add up
    if sum(counts.values()) == (total or 0):
        ended = sum(count for name, count in counts.items() if STATUSES.get(name) in TERMINAL)
    is_active = status.get("is_active") is not False
    metadata = data.get("metadata")
    return FetchedBatch(
        batch_id=str(data["taskgroup_id"]),
        sender_status="active" if is_active else "inactive",
        is_terminal=not is_active and bool(total) and ended in (None, total),
        total=total,
        ended=ended,
        name=text(metadata.get("name")) if isinstance(metadata, dict) else None,
        counts=counts,
        created_at=moment(data.get("created_at")),
    )


def run(
    data: Mapping[str, object], *, given: object = None, output: object = None
) -> FetchedRun | None:
    """Read a task run with the input and the output that came beside it; None without an id."""
    run_id = word(data.get("run_id"))
    if run_id is None:
        return None
    sender_status = word(data.get("status")) or "unknown"
    status = STATUSES.get(sender_status, "running")
    brought: Mapping[str, object] = output if isinstance(output, dict) else {}
    metadata = data.get("metadata")
    raw = {"run": dict(data), "input": given, "output": output}
    return FetchedRun(
        run_id=run_id,
        status=status,
        sender_status=sender_status,
        raw={name: value for name, value in raw.items() if value is not None},
        batch_id=_group_id(data),
        task_id=text(metadata.get("task_id")) if isinstance(metadata, dict) else None,
        runner=word(data.get("processor")),
        input=as_input(given.get("input")) if isinstance(given, dict) else None,
        output=_content(brought),
        output_type=text(brought.get("type")),
        sources=brought.get("basis") or None,
        error=_error(data.get("error")) if status in FRUITLESS else None,
        created_at=moment(data.get("created_at")),
        completed_at=moment(data.get("modified_at")) if status in TERMINAL else None,
        has_output="content" in brought,
        is_input_whole=True,
    )


def in_group(found: FetchedRun, listed: FetchedBatch) -> FetchedRun:
    """Name the group of a run from its stream; older samples do not name it themselves."""
    return replace(found, batch_id=listed.batch_id)


def as_input(value: object) -> dict[str, object] | None:
    """Return a run's input as an object: text stands under the key `input`."""
    if isinstance(value, str) and value:
        return {"input": value}
    return value if isinstance(value, dict) else None


def _group_id(data: Mapping[str, object]) -> str | None:
    """Read the group's id under the API's name or under that of the SDK."""
    return word(data.get("taskgroup_id")) or word(data.get("task_group_id"))


def _content(output: Mapping[str, object]) -> object:
    """Return an output's content; one sample of the docs shows JSON content as text."""
    content = output.get("content")
    if output.get("type") == "json" and isinstance(content, str):
        try:
            return leniently(content.encode("utf-8", "surrogatepass"))
        except ValueError:
            return content
    return content


def _error(value: object) -> str | None:
    """Return the message with the details beside it, under either spelling."""
    if not isinstance(value, dict):
        return text(value)
    message = text(value.get("message")) or str(value)
    more = value.get("detail") or value.get("details")
    return f"{message} ({more})" if more else message
