"""Batches, awaited runs and unbound endpoints, page by page: what has to be looked at.

There may be very many, so each page is a short read.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, func, select
from sqlmodel import col

from storage.batches.ledger import of_rows
from storage.models import Batch, Endpoint, Job, Result, Run

PAGE = 50
"""Rows of a page."""

SEARCHED = 10_000
"""Rows of runs, most of them finished, that one read looks through for a page."""


class Named(NamedTuple):
    """A batch, a run or an endpoint, with the key behind which the next page begins."""

    key: int | str
    id: str
    endpoint_id: str | None
    kind: str | None = None


def all_batches(connection: Connection, source: str, *, after: int) -> list[Named]:
    """Return batches behind a key, open or complete."""
    return _batches(connection, source, after)


def open_batches(
    connection: Connection, source: str, *, after: int
) -> tuple[list[Named], int | None]:
    """Return the batches behind a key that are open by their ledgers, and where to go on."""
    query = select(Batch).where(col(Batch.source) == source, col(Batch.id) > after)
    rows = connection.execute(query.order_by(col(Batch.id)).limit(PAGE)).all()
    found = [
        Named(row.id, row.batch_id, row.endpoint_id)
        for row, ledger in zip(rows, of_rows(connection, rows), strict=True)
        if ledger.state == "open"
    ]
    return found, rows[-1].id if len(rows) == PAGE else None


def complete_batches(
    connection: Connection, source: str, *, since: datetime, after: int
) -> list[Named]:
    """Return the complete batches behind a key that are known since a moment."""
    is_recent = col(Batch.created_at) >= since
    return _batches(connection, source, after, col(Batch.state) == "complete", is_recent)


def _batches(
    connection: Connection, source: str, after: int, *which: ColumnElement[bool]
) -> list[Named]:
    rows: Any = connection.execute(
        select(col(Batch.id), col(Batch.batch_id), col(Batch.endpoint_id))
        .where(col(Batch.source) == source, col(Batch.id) > after, *which)
        .order_by(col(Batch.id))
        .limit(PAGE)
    )
    return [Named(*row) for row in rows]


def awaited_runs(
    connection: Connection, source: str, *, after: int
) -> tuple[list[Named], int | None]:
    """Return runs behind a key without a result that no batch looks after, and where to go on."""
    last = connection.execute(select(func.max(col(Run.id)))).scalar() or 0
    until = min(after + SEARCHED, last)
    result = exists().where(col(Result.run_pk) == col(Run.id), col(Result.is_current))
    batch = exists().where(col(Batch.source) == source, col(Batch.batch_id) == col(Run.batch_id))
    query = select(col(Run.id), col(Run.run_id)).where(
        col(Run.source) == source, col(Run.id) > after, col(Run.id) <= until, ~result, ~batch
    )
    rows = connection.execute(query.order_by(col(Run.id)).limit(PAGE)).all()
    found = [Named(row.id, row.run_id, None) for row in rows]
    if len(found) == PAGE:
        return found, rows[-1].id
    return found, until if until < last else None


class Tally(NamedTuple):
    """Numbers of runs that are known, and of results that are stored."""

    runs: int
    results: int


def tally(connection: Connection, source: str, *, batch_id: str | None, run_id: str) -> Tally:
    """Count the runs of a batch and their results or, without a batch, those of one run."""
    mine = col(Run.run_id) == run_id if batch_id is None else col(Run.batch_id) == batch_id
    row = connection.execute(
        select(func.count(col(Run.id)), func.count(col(Result.id)))
        .select_from(Run)
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.source) == source, mine)
    ).one()
    return Tally(*row)


def unbound_endpoints(connection: Connection, source: str, *, after: str) -> list[Named]:
    """Return endpoints behind a key that are looked for, or were, and that are bound to nothing."""
    check = exists().where(
        col(Job.endpoint_id) == col(Endpoint.id),
        col(Job.kind) == "check",
        col(Job.status).in_(("pending", "running", "dead")),
    )
    query = select(col(Endpoint.id), col(Endpoint.kind)).where(
        col(Endpoint.source) == source,
        col(Endpoint.resource).is_(None),
        col(Endpoint.state) != "closed",
        col(Endpoint.kind) != "account",
        col(Endpoint.id) > after,
        check,
    )
    rows = connection.execute(query.order_by(col(Endpoint.id)).limit(PAGE))
    return [Named(row.id, row.id, row.id, row.kind) for row in rows]
