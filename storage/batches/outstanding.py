"""Single runs that are owed to us: expected alone, so that no batch's ledger counts them.

There may be millions, so they are counted in many short reads. Runs become known, and then stored,
in between: those that nobody has seen are counted first, so that none is missed for moving on.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, and_, distinct, exists, func, select
from sqlmodel import col

from storage.database import Database
from storage.models import Endpoint, Job, Result, Run

KINDS = ("task", "run", "contents")
"""What an endpoint or a job may be for, where it is for one result."""

AT_ONCE = 10_000
"""Rows that are looked at in one read."""


def count(database: Database, source: str) -> int:
    """How many single runs of a source are expected, and have no result.

    A run that is known to be of a batch is in that batch's ledger. An endpoint that is not bound
    yet stands for one run, for as long as a check looks which.
    """
    unknown = _awaited(database, source) + _of_endpoints(database, source)
    return unknown + _of_jobs(database, source) + _without_result(database, source)


def _awaited(database: Database, source: str) -> int:
    """The endpoints of which nobody knows yet which run they are for."""
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
    """The runs, each once, that an endpoint is open for and nobody has seen."""
    name: Any = col(Endpoint.resource)
    total, after = 0, ""
    while True:
        part = select(name).where(col(Endpoint.source) == source, name > after)
        part = part.order_by(name).limit(AT_ONCE)
        with database.read() as connection:
            last = connection.execute(select(func.max(part.subquery().c.resource))).scalar()
            if last is None:
                return total
            seen = _is_seen(source, name) & col(Run.run_id).between(after, last)
            unseen = select(func.count(distinct(name))).where(
                col(Endpoint.source) == source, name > after, name <= last, ~exists().where(seen)
            )
            # most parts end here: so much is told by the indexes alone
            if connection.execute(unseen).scalar_one():
                total += connection.execute(unseen.where(*_is_expecting())).scalar_one()
        after = last


def _of_jobs(database: Database, source: str) -> int:
    """The runs, each once, that a job is left for, but no endpoint, and nobody has seen."""
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
    """The runs that are known by themselves, but whose result is not here."""
    total = 0
    for first, last in _parts(database, col(Run.id)):
        # said of both: a plan for one part must not look at all results
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
    """The first and the last key of each part of a table that is looked at in one read."""
    with database.read() as connection:
        end = connection.execute(select(func.max(key))).scalar() or 0
    for first in range(1, end + 1, AT_ONCE):
        yield first, first + AT_ONCE - 1
