"""Runs, and the facts known of each; an older look does not undo a later end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, func, select, update
from sqlmodel import col

from storage.clock import is_believed
from storage.database import insert, statement
from storage.fetched import TERMINAL, FetchedRun
from storage.json_text import clean
from storage.models import Result, Run
from storage.runs.rows import RunRow


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A stored run: where it belongs, and its current result if there is one.

    `result` is the status of that result, `fetched_at` and `pruned_at` are its times.
    """

    batch_id: str | None
    task_id: str | None
    has_input: bool
    sender_status: str | None
    waits_for: dict[str, Any] | None
    result: str | None
    fetched_at: datetime | None
    pruned_at: datetime | None = None


def find(connection: Connection, source: str, run_id: str) -> KnownRun | None:
    """Return what is stored of a run, or None."""
    row = _find(connection, source=source, run_id=run_id).one_or_none()
    return None if row is None else KnownRun(**row._mapping)


@statement
def _find(source: Any, run_id: Any) -> Executable:
    return (
        select(
            col(Run.batch_id),
            col(Run.task_id),
            col(Run.input).is_not(None).label("has_input"),
            col(Run.sender_status),
            col(Run.waits_for),
            col(Result.status).label("result"),
            col(Result.fetched_at),
            col(Result.pruned_at),
        )
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.source) == source, col(Run.run_id) == run_id)
    )


def expect(
    connection: Connection,
    source: str,
    run_id: str,
    *,
    task_id: str | None = None,
    input: dict[str, Any] | None = None,
    runner: str | None = None,
) -> None:
    """Add a run that the sender accepted alone; a repeated call fills in what was missing."""
    statement = insert(Run).values(
        source=source,
        run_id=run_id,
        status="queued",
        task_id=clean(task_id),
        input=clean(input),
        runner=runner,
    )
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source", "run_id"],
            set_={
                "input": func.coalesce(given.input, col(Run.input)),
                "task_id": func.coalesce(given.task_id, col(Run.task_id)),
                "runner": func.coalesce(col(Run.runner), given.runner),
            },
        )
    )


def upsert(
    connection: Connection,
    source: str,
    given: Mapping[str, tuple[RunRow, datetime]],
    *,
    now: datetime,
) -> dict[str, int]:
    """Add or update the runs `given` by id; returns their keys. Terminal beats non-terminal.

    Beside each row is when the call that named the run began. Runs are added in the given order,
    which becomes the order of exports: two processes that add the same new runs in different
    orders may deadlock, and the transaction of one of them is then repeated.
    """
    if not given:
        return {}
    before = _locked(connection, source, given)
    fresh = [
        {
            "source": source,
            "run_id": run_id,
            "created_at": row.run.created_at,
            "input": row.input,
            **_facts(row.run, None, seen_at, now),
        }
        for run_id, (row, seen_at) in given.items()
        if run_id not in before
    ]
    added = _add(connection, fresh)
    if len(added) < len(fresh):  # another process was quicker with some
        before |= _locked(connection, source, given.keys() - added.keys() - before.keys())
    changed = [_changed(there, *given[run_id], now) for run_id, there in before.items()]
    if changed:
        connection.execute(_changing(tuple(changed[0])), changed)
    return added | {run_id: row.id for run_id, row in before.items()}


def keep_ends(connection: Connection, ends: Sequence[tuple[int, str]]) -> None:
    """Return runs, by their keys, to the statuses of their results, which no other end outdates."""
    if ends:
        connection.execute(
            update(Run).where(col(Run.id) == bindparam("pk")).values(status=bindparam("end")),
            [{"pk": run_pk, "end": status} for run_pk, status in ends],
        )


# --- inside -------------------------------------------------------------------------------------


def _changed(before: Row[Any], row: RunRow, seen_at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "pk": before.id,
        "created_at": before.created_at or row.run.created_at,
        "input": _richer(before.input, row),
        **_facts(row.run, before, seen_at, now),
    }


@cache
def _changing(names: tuple[str, ...]) -> Executable:
    parameters: Any = {name: bindparam(name) for name in names if name != "pk"}
    return update(Run).where(col(Run.id) == bindparam("pk")).values(parameters)


def _add(connection: Connection, fresh: list[dict[str, Any]]) -> dict[str, int]:
    """Insert runs; returns the keys of those that were not there."""
    if not fresh:
        return {}
    return {row.run_id: row.id for row in connection.execute(_adding(), fresh)}


@cache
def _adding() -> Executable:
    return insert(Run).on_conflict_do_nothing().returning(col(Run.run_id), col(Run.id))


def _locked(connection: Connection, source: str, run_ids: Collection[str]) -> dict[str, Row[Any]]:
    """Return the runs that are there, locked with their results until the caller's COMMIT.

    They are locked in the order of their ids, so that two pages that share some do not deadlock.
    """
    rows = _lock(connection, source=source, run_ids=list(run_ids))
    return {row.run_id: row for row in rows}


@statement
def _lock(source: Any, run_ids: Any) -> Executable:
    return (
        select(Run)
        .where(col(Run.source) == source, col(Run.run_id).in_(run_ids))
        .order_by(col(Run.run_id))
        .with_for_update()
    )


def _facts(
    run: FetchedRun, before: Row[Any] | None, seen_at: datetime, now: datetime
) -> dict[str, Any]:
    """Merge what a call showed of a run into what is stored; a later end stays."""
    if before is None:
        kept, older, status, sender_status = None, False, run.status, run.sender_status
    else:
        kept = before
        seen_later = (
            before.seen_at is not None
            and before.seen_at > seen_at
            and is_believed(before.seen_at, now)
        )
        had_ended, has_ended = before.status in TERMINAL, run.status in TERMINAL
        older = seen_later if had_ended == has_ended else had_ended
        status = before.status if older else run.status
        sender_status = before.sender_status if older else run.sender_status
        seen_at = before.seen_at if seen_later else seen_at
    return {
        "status": status,
        "sender_status": sender_status,
        "batch_id": (kept and kept.batch_id) or run.batch_id,
        "task_id": run.task_id or (kept and kept.task_id),
        "runner": run.runner or (kept and kept.runner),
        "waits_for": kept.waits_for if kept is not None and older else clean(run.waits_for),
        "seen_at": seen_at,
    }


def _richer(before: dict[str, Any] | None, row: RunRow) -> Any:
    """Return the better of two inputs: our own record, or what the sender gives back whole.

    Our record is whole, while an echo may be a part of it; but which run our record belongs to may
    rest on the order of an answer.
    """
    if before is None or (row.run.is_input_whole and row.input is not None):
        return row.input
    return before
