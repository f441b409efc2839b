"""Reading Parallel's v0 answers and bodies, as leniently as identity allows."""

from collections.abc import Collection, Mapping, Sequence

from receiver.json_values import leniently, moment, text, word
from receiver.providers.model import Announcement, Subject
from storage import TERMINAL, FetchedBatch, FetchedRun

STATUSES = {
    "queued": "queued",
    "running": "running",
    "awaiting_tool_calls": "running",
    "cancelling": "running",
    "complete": "completed",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
FACTS = ("task_id", "batch_run_id", "run_id", "status", "runner")
"""The first columns of the CSV export; the arguments and then the outputs follow."""


def announced(body: Mapping[str, object]) -> Announcement | None:
    """Return the run that a callback announces."""
    run_id = word(body.get("run_id"))
    if run_id is None:
        return None
    status = word(body.get("status"))
    return Announcement(
        kind="run",
        resource=run_id,
        batch_id=word(body.get("batch_run_id")),
        status=status,
        is_end=STATUSES.get(status or "", "completed") in TERMINAL,
    )


def batch(status_map: Mapping[str, object], subject: Subject) -> FetchedBatch:
    """Read a batch from its status map, which names each run under its status."""
    runs = [
        _from_map(run_id, str(status), subject)
        for status, listed in status_map.items()
        for found in (listed if isinstance(listed, list) else ())
        if (run_id := word(found)) is not None
    ]
    ended = sum(run.status in TERMINAL for run in runs)
    is_terminal = bool(runs) and ended == len(runs)
    return FetchedBatch(
        batch_id=subject.id,
        sender_status="inactive" if is_terminal else "active",
        is_terminal=is_terminal,
        total=len(runs),
        ended=ended,
        counts={str(name): len(ids) for name, ids in status_map.items() if isinstance(ids, list)},
        runs=tuple(runs),
    )


def run(data: Mapping[str, object]) -> FetchedRun | None:
    """Read a run object, as single calls, exports and callbacks show it; None without an id."""
    run_id = word(data.get("run_id"))
    if run_id is None:
        return None
    sender_status = word(data.get("status")) or "unknown"
    given = data.get("input")
    arguments = given.get("arguments") if isinstance(given, dict) else None
    return FetchedRun(
        run_id=run_id,
        status=STATUSES.get(sender_status, "running"),
        sender_status=sender_status,
        raw=dict(data),
        batch_id=word(data.get("batch_run_id")),
        task_id=text(data.get("task_id")),
        runner=word(data.get("runner")),
        input=arguments if isinstance(arguments, dict) and arguments else None,
        output=data.get("output"),
        output_type=None if data.get("output") is None else "json",
        error=text(data.get("error")),
        created_at=moment(data.get("created_at")),
        completed_at=moment(data.get("completed_at")),
        has_output=data.get("output") is not None,
        is_input_whole=True,
    )


def from_row(
    header: Sequence[str], cells: Sequence[str], *, names: Collection[str]
) -> dict[str, object]:
    """Return the run object that a CSV row was written from.

    `names` are the arguments: their columns come first, and outputs may have equal names.
    """
    facts = dict(zip(header[: len(FACTS)], cells, strict=False))
    rest = list(zip(header[len(FACTS) :], map(_cell, cells[len(FACTS) :]), strict=False))
    cut = 0
    while cut < len(rest) and cut < len(names) and rest[cut][0] in names:
        cut += 1
    given = {key: value for key, value in rest[:cut] if value != ""}
    return {**facts, "input": {"arguments": given}, "output": dict(rest[cut:])}


def _from_map(run_id: str, status: str, batch: Subject) -> FetchedRun:
    """Return a run from the status map, which has neither output nor error nor runner."""
    return FetchedRun(
        run_id=run_id,
        status=STATUSES.get(status, "running"),
        sender_status=word(status) or "unknown",
        raw={"run_id": run_id, "status": status},
        batch_id=batch.id,
        task_id=batch.task_id,
        has_output=False,
        is_whole=False,
    )


def _cell(value: str) -> object:
    """Parse a cell that holds a list or an object; all else is text, since CSV has no types."""
    if not value.startswith(("{", "[")):
        return value
    try:
        return leniently(value.encode("utf-8", "surrogatepass"))
    except ValueError:
        return value
