"""Single runs as people and programs look at them: what was expected, seen, and brought."""

import json
from typing import Any

from sqlalchemy import Connection, func, select
from sqlmodel import col

from storage.errors import NotFound
from storage.models import Result, Run

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
    col(Result.error),
    col(Result.cost),
    col(Result.output_type),
    col(Result.completed_at),
    col(Result.fetched_at),
    col(Result.pruned_at),
)


def show(
    connection: Connection, run_id: str, *, source: str | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The run with this id in whichever source, and the raw answer of its current result.

    `result_status` is that of its current result, None where there is none yet. Raises
    NotFound, also where several sources have such a run and none is named.
    """
    query = (
        select(*_FACTS, col(Result.raw))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.run_id) == run_id)
    )
    rows = [
        dict(row._mapping)
        for name in _sources(connection, source)
        for row in connection.execute(query.where(col(Run.source) == name))
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


def list_all(
    connection: Connection, *, source: str | None = None, limit: int
) -> list[dict[str, Any]]:
    """The newest runs that are of no batch, newest first."""
    query = (
        select(*_FACTS, col(Run.id))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.batch_id).is_(None))
        .order_by(col(Run.id).desc())
        .limit(limit)
    )
    rows = [
        dict(row._mapping)
        for name in _sources(connection, source)
        for row in connection.execute(query.where(col(Run.source) == name))
    ]
    newest = sorted(rows, key=lambda row: row.pop("id"), reverse=True)
    return newest[:limit]


def _sources(connection: Connection, source: str | None) -> list[str]:
    """The source that is asked for, or all that have runs.

    One by one, for the indexes begin with the source: without it all runs would be read, and the
    few sources are found by as many steps through an index.
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
