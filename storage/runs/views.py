"""Single runs as people and programs read them: what was expected, seen, and stored."""

import json
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Connection, func, select
from sqlmodel import col

from storage.database import as_dicts
from storage.errors import NotFound
from storage.models import FoundBy, Result, Run

_FACTS: tuple[Any, ...] = (
    col(Run.source),
    col(Run.run_id),
    col(Run.batch_id),
    col(Run.status),
    col(Run.sender_status),
    col(Run.runner),
    col(Run.input),
    col(Run.waits_for),
    col(Run.created_at),
    col(Run.seen_at),
    col(Result.status).label("result_status"),
    col(Result.version),
    col(Result.origin),
    col(Result.found_by),
    col(Result.error),
    col(Result.cost),
    col(Result.output_type),
    col(Result.completed_at),
    col(Result.fetched_at),
    col(Result.pruned_at),
)

MARKED_AMONG = 1_000
"""The newest results among which a run with our mark is looked for."""


class RunFacts(TypedDict):
    """A run, and its current result without the contents; `result_status` None: there is none."""

    source: str
    run_id: str
    batch_id: str | None
    status: str
    sender_status: str | None
    runner: str | None
    input: dict[str, Any] | None
    waits_for: dict[str, Any] | None
    created_at: datetime | None
    seen_at: datetime | None
    result_status: str | None
    version: int | None
    origin: str | None
    found_by: FoundBy | None
    error: str | None
    cost: float | None
    output_type: str | None
    completed_at: datetime | None
    fetched_at: datetime | None
    pruned_at: datetime | None


def show(
    connection: Connection, run_id: str, *, source: str | None = None
) -> tuple[RunFacts, dict[str, Any] | None]:
    """Return the run with this id in whichever source, and the raw answer of its current result.

    The answer is None where there is none, and where it is nested too deeply to be parsed. Raises
    NotFound, also where several sources have such a run and none is named.
    """
    query = (
        select(*_FACTS, col(Result.raw))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.run_id) == run_id)
    )
    rows = [
        row
        for name in _sources(connection, source)
        for row in as_dicts(connection.execute(query.where(col(Run.source) == name)))
    ]
    if not rows:
        raise NotFound(
            f"There is no task {run_id}: see `task list`. To have one brought in that other code "
            f"created: endpoint add SOURCE --kind task --resource {run_id}."
        )
    if len(rows) > 1:
        sources = ", ".join(sorted(row["source"] for row in rows))
        raise NotFound(f"Several sources have a task {run_id}: add --source ({sources}).")
    (facts,) = rows
    return facts, _parsed(facts.pop("raw"))


def list_all(connection: Connection, *, source: str | None = None, limit: int) -> list[RunFacts]:
    """Return the newest runs that are of no batch, newest first."""
    query = (
        select(*_FACTS, col(Run.id))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.batch_id).is_(None))
        .order_by(col(Run.id).desc())
        .limit(limit)
    )
    rows = [
        row
        for name in _sources(connection, source)
        for row in as_dicts(connection.execute(query.where(col(Run.source) == name)))
    ]
    newest = sorted(rows, key=lambda row: row.pop("id"), reverse=True)
    return newest[:limit]


def _sources(connection: Connection, source: str | None) -> list[str]:
    """Return the source that is asked for, or all that have runs.

    The caller queries them one by one, since the indexes begin with the source: without it all runs
    would be read. The few sources are found by as many steps through an index.
    """
    if source is not None:
        return [source]
    found: list[str] = []
    following = select(func.min(col(Run.source)))
    name = connection.execute(following).scalar()
    while name is not None:
        found.append(name)
        name = connection.execute(following.where(col(Run.source) > name)).scalar()
    return found


def _parsed(raw: str | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):  # nested too deeply to be looked through
        return None
    return parsed if isinstance(parsed, dict) else None


def find_marked(connection: Connection, source: str, mark: str) -> str | None:
    """Return the single run among the newest results whose raw answer holds `mark`, or None."""
    newest = select(col(Result.run_pk), col(Result.raw)).order_by(col(Result.id).desc())
    result = newest.limit(MARKED_AMONG).subquery()
    found: str | None = connection.execute(
        select(col(Run.run_id))
        .join(result, result.c.run_pk == col(Run.id))
        .where(
            col(Run.source) == source,
            col(Run.batch_id).is_(None),
            result.c.raw.contains(mark, autoescape=True),
        )
        .limit(1)
    ).scalar()
    return found
