"""Stored runs as they are compared with the sender's: states, stamps, and digests made anew."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Text, cast, exists, func, select
from sqlmodel import col

from storage.json_text import decoded
from storage.models import Batch, Job, Result, Run
from storage.runs.rows import digest_of

PAGE = 500
"""Runs of a page."""

SEARCHED = 10_000
"""Rows of runs, most of them of batches, that one read looks through for single ones."""


class ComparedRun(NamedTuple):
    """A run and its current result; `result` is that result's status, None where there is none.

    `digest` is made of the stored content: None where that is not what was once stored.
    """

    status: str
    result: str | None
    digest: bytes | None
    output_type: str | None
    completed_at: datetime | None
    pruned_at: datetime | None


class NamedRun(NamedTuple):
    """A known run; `kind` is that of its check, where it had one."""

    run_id: str
    kind: str | None = None


CONTENTS = 50
"""Contents that are in memory at once."""


def of(connection: Connection, source: str, run_ids: Sequence[str]) -> dict[str, ComparedRun]:
    """Return these runs by id; those that are unknown are left out."""
    found: dict[str, ComparedRun] = {}
    for start in range(0, len(run_ids), CONTENTS):
        found |= _of(connection, source, run_ids[start : start + CONTENTS])
    return found


def _of(connection: Connection, source: str, run_ids: Sequence[str]) -> dict[str, ComparedRun]:
    rows: Any = connection.execute(
        select(
            col(Run.run_id),
            col(Run.status),
            col(Result.status).label("result"),
            col(Result.digest),
            col(Result.output_type),
            col(Result.completed_at),
            col(Result.pruned_at),
            # as text: what was changed by hand may be no JSON
            cast(col(Result.output), Text).label("output"),
            cast(col(Result.sources), Text).label("sources"),
            col(Result.error),
        )
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.source) == source, col(Run.run_id).in_(run_ids))
    )
    return {
        row.run_id: ComparedRun(
            status=row.status,
            result=row.result,
            digest=_digest(row),
            output_type=row.output_type,
            completed_at=row.completed_at,
            pruned_at=row.pruned_at,
        )
        for row in rows
    }


def _digest(row: Row[Any]) -> bytes | None:
    """Return the digest of a stored result, where its content still gives that."""
    if row.result is None:
        return None
    try:
        output, sources = (
            None if text is None else decoded(text) for text in (row.output, row.sources)
        )
        digest = digest_of(row.result, output, sources, row.error)
    except (ValueError, RecursionError):
        return None
    return digest if digest == row.digest else None


def page(
    connection: Connection, source: str, batch_id: str | None, *, after: int
) -> tuple[list[NamedRun], int | None]:
    """Return known runs behind a key, and where to go on: of a batch, or of no known batch."""
    if batch_id is not None:
        return _of_batch(connection, source, batch_id, after=after)
    last = connection.execute(select(func.max(col(Run.id)))).scalar() or 0
    until = min(after + SEARCHED, last)
    batch = exists().where(col(Batch.source) == source, col(Batch.batch_id) == col(Run.batch_id))
    kind = (
        select(func.max(col(Job.subject_kind)))
        .where(
            col(Job.kind) == "check",
            col(Job.source) == source,
            col(Job.subject) == col(Run.run_id),
            col(Job.subject_kind) != "batch",
        )
        .scalar_subquery()
    )
    query = select(col(Run.id), col(Run.run_id), kind.label("kind")).where(
        col(Run.source) == source, col(Run.id) > after, col(Run.id) <= until, ~batch
    )
    rows = connection.execute(query.order_by(col(Run.id)).limit(PAGE)).all()
    found = [NamedRun(row.run_id, row.kind) for row in rows]
    if len(rows) == PAGE:
        return found, rows[-1].id
    return found, until if until < last else None


def _of_batch(
    connection: Connection, source: str, batch_id: str, *, after: int
) -> tuple[list[NamedRun], int | None]:
    rows = connection.execute(
        select(col(Run.id), col(Run.run_id))
        .where(col(Run.source) == source, col(Run.batch_id) == batch_id, col(Run.id) > after)
        .order_by(col(Run.id))
        .limit(PAGE)
    ).all()
    return [NamedRun(row.run_id) for row in rows], rows[-1].id if len(rows) == PAGE else None
