"""Single runs that are outstanding: expected alone, so that no batch's ledger counts them.

There may be millions, so they are counted in many short reads. Runs become known, and then stored,
in between: those without a row are counted first, so that none is missed because it moves on.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, and_, distinct, exists, func, select
from sqlmodel import col

from storage.database import Database
from storage.models import Endpoint, Job, Result, Run

KINDS = ("task", "run", "contents")
"""Kinds of endpoints, and subjects of jobs, that are for one result."""

READ_ROWS = 10_000
"""Rows that one read looks at."""


def count(database: Database, source: str) -> int:
    """Count the single runs of a source that are expected and have no result.

    A run that is known to be of a batch is in that batch's ledger. An endpoint that is not bound
    yet counts as one run while its check looks for it.
    """
    unknown = _awaited(database, source) + _of_endpoints(database, source)
    return unknown + _of_jobs(database, source) + _without_result(database, source)


def _awaited(database: Database, source: str) -> int:
    """Count the endpoints whose run is not known yet."""
    query = (
        select(func.count())
        .select_from(Job)
        .join(Endpoint, col(Endpoint.id) == col(Job.endpoint_id))
        .where(
            col(Job.kind) == "check",
            col(Job.status).in_(("pending", "running")),
            col(Endpoint.source) == source,
            col(Endpoint.kind).in_(KINDS),
            col(Endpoint.resource).is_(None),
        )
    )
    with database.read() as connection:
        return connection.execute(query).scalar_one()


def _of_endpoints(database: Database, source: str) -> int:
    """Count the runs, each once, that an open endpoint is for and that have no row."""
    name: Any = col(Endpoint.resource)
    total, after = 0, ""
    while True:
        part = select(name).where(col(Endpoint.source) == source, name > after)
        part = part.order_by(name).limit(READ_ROWS)
        with database.read() as connection:
            last = connection.execute(select(func.max(part.subquery().c.resource))).scalar()
            if last is None:
                return total
            seen = _is_seen(source, name) & col(Run.run_id).between(after, last)
            unseen = select(func.count(distinct(name))).where(
                col(Endpoint.source) == source, name > after, name <= last, ~exists().where(seen)
            )
            # most parts end here, with a count from the indexes alone
            if connection.execute(unseen).scalar_one():
                total += connection.execute(unseen.where(*_is_expecting())).scalar_one()
        after = last


def _of_jobs(database: Database, source: str) -> int:
    """Count the runs, each once, that a job is for, but no endpoint, and that have no row."""
    name: Any = col(Job.subject)
    has_endpoint = exists().where(
        col(Endpoint.source) == source, col(Endpoint.resource) == name, *_is_expecting()
    )
    query = select(name).where(
        col(Job.source) == source,
        col(Job.status).in_(("pending", "running", "dead")),
        col(Job.subject_kind).in_(KINDS),
        name.is_not(None),
        ~has_endpoint,
        ~exists().where(_is_seen(source, name)),
    )
    names: set[str] = set()
    for first, last in _parts(database, col(Job.id)):
        with database.read() as connection:
            names.update(connection.scalars(query.where(col(Job.id).between(first, last))))
    return len(names)


def _without_result(database: Database, source: str) -> int:
    """Count the runs of no batch that have a row, but no result."""
    total = 0
    for first, last in _parts(database, col(Run.id)):
        # a bound for both tables: a plan for one part must not read all results
        result = exists().where(
            col(Result.run_pk) == col(Run.id),
            col(Result.run_pk).between(first, last),
            col(Result.is_current),
        )
        mine = (col(Run.source) == source, col(Run.batch_id).is_(None))
        query = select(func.count()).select_from(Run).where(*mine, ~result)
        among = col(Run.id).between(first, last)
        with database.read() as connection:
            total += connection.execute(query.where(among)).scalar_one()
    return total


def _is_expecting() -> tuple[ColumnElement[bool], ...]:
    return col(Endpoint.kind).in_(KINDS), col(Endpoint.state) != "closed"


def _is_seen(source: str, name: Any) -> ColumnElement[bool]:
    return and_(col(Run.source) == source, col(Run.run_id) == name)


def _parts(database: Database, key: Any) -> Iterator[tuple[int, int]]:
    """Yield the first and the last key of each part of a table, for one read each."""
    with database.read() as connection:
        end = connection.execute(select(func.max(key))).scalar() or 0
    for first in range(1, end + 1, READ_ROWS):
        yield first, first + READ_ROWS - 1
