"""Parallel's v0 answers and bodies in our words, read as leniently as identity allows."""

from collections.abc import Mapping
from typing import Any

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


def announced(body: Mapping[str, Any]) -> Announcement | None:
    """What a callback is about: a run."""
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


def batch(status_map: Mapping[str, Any], subject: Subject) -> FetchedBatch:
    """A batch by its status map, which names each run under its status."""
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


def run(data: Mapping[str, Any]) -> FetchedRun | None:
    """A run object, as single calls, exports and callbacks show it; None without an id."""
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


def from_row(item: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A CSV row as the run object that it was written from; names may stand twice in a header."""
    header, cells = item
    names = defaults.get("arguments") or ()
    facts = dict(zip(header[: len(FACTS)], cells, strict=False))
    rest = list(zip(header[len(FACTS) :], map(_cell, cells[len(FACTS) :]), strict=False))
    cut = 0
    while cut < len(rest) and cut < len(names) and rest[cut][0] in names:
        cut += 1
    given = {key: value for key, value in rest[:cut] if value != ""}
    return {**facts, "input": {"arguments": given}, "output": dict(rest[cut:])}


def _from_map(run_id: str, status: str, batch: Subject) -> FetchedRun:
    """A run as the status map tells of it: an end without its output, its error, its runner."""
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


def _cell(value: str) -> Any:
    """Lists and objects are JSON text in a cell; all else is text, since CSV knows no types."""
    if not value.startswith(("{", "[")):
        return value
    try:
        return leniently(value.encode("utf-8", "surrogatepass"))
    except ValueError:
        return value
