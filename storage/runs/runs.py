"""Runs: what is known of each, whoever told it; a later end is not undone by an older look."""

from collections.abc import Collection, Mapping
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
from storage.runs.rows import Prepared


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a run: where it belongs, and its current result if there is one."""

    batch_id: str | None
    task_id: str | None
    has_input: bool
    sender_status: str | None
    waits_for: dict[str, Any] | None
    result: str | None
    fetched_at: datetime | None
    pruned_at: datetime | None = None


def find(connection: Connection, source: str, run_id: str) -> Known | None:
    """What is known of a run; `result` is the status of its current result."""
    row = _find(connection, source=source, run_id=run_id).one_or_none()
    return None if row is None else Known(**row._mapping)


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
    """Know a run that the sender accepted alone; knowing it again fills in what was missing."""
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
    told: Mapping[str, tuple[Prepared, datetime]],
    *,
    now: datetime,
) -> dict[str, int]:
    """Know these runs, by their ids; returns their keys. Terminal beats non-terminal.

    With each when the call that told of it began. They are added in the order in which they were
    told, which is that of exports: two processes that are told the same new runs in different
    orders may wait for each other both, and one of them is then asked again.
    """
    if not told:
        return {}
    before = _locked(connection, source, told)
    fresh = [
        {
            "source": source,
            "run_id": run_id,
            "created_at": prepared.run.created_at,
            "input": prepared.input,
            **_known(prepared.run, None, seen_at, now),
        }
        for run_id, (prepared, seen_at) in told.items()
        if run_id not in before
    ]
    added = _add(connection, fresh)
    if len(added) < len(fresh):  # another process was quicker with some
        before |= _locked(connection, source, told.keys() - added.keys() - before.keys())
    changed = [
        {
            "pk": there.id,
            "created_at": there.created_at or told[run_id][0].run.created_at,
            "input": _richer(there.input, told[run_id][0]),
            **_known(told[run_id][0].run, there, told[run_id][1], now),
        }
        for run_id, there in before.items()
    ]
    if changed:
        connection.execute(_changing(tuple(changed[0])), changed)
    return added | {run_id: row.id for run_id, row in before.items()}


# --- inside -------------------------------------------------------------------------------------


@cache
def _changing(names: tuple[str, ...]) -> Executable:
    parameters: Any = {name: bindparam(name) for name in names if name != "pk"}
    return update(Run).where(col(Run.id) == bindparam("pk")).values(parameters)


def _add(connection: Connection, fresh: list[dict[str, Any]]) -> dict[str, int]:
    """Add runs; returns the keys of those that were not there."""
    if not fresh:
        return {}
    return {row.run_id: row.id for row in connection.execute(_adding(), fresh)}


@cache
def _adding() -> Executable:
    return insert(Run).on_conflict_do_nothing().returning(col(Run.run_id), col(Run.id))


def _locked(connection: Connection, source: str, run_ids: Collection[str]) -> dict[str, Row[Any]]:
    """The runs that are there; nobody else writes about them, or their results, until our COMMIT.

    In the order of their ids, so that two pages that share some never wait for each other both.
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


def _known(
    run: FetchedRun, before: Row[Any] | None, seen_at: datetime, now: datetime
) -> dict[str, Any]:
    """What a call told of a run, over what we knew; a later end is not undone by an older look."""
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


def _richer(before: dict[str, Any] | None, told: Prepared) -> Any:
    """Our own record of an input is whole, what the sender echoes only stands in for it.

    Unless the sender gives it back whole: our record may rest on the order of an answer.
    """
    if before is None or (told.run.is_input_whole and told.input is not None):
        return told.input
    return before
