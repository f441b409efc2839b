"""Single runs that are owed to us: expected alone, so that no batch's ledger counts them."""

from typing import Any

from sqlalchemy import CompoundSelect, Connection, func, select, union
from sqlmodel import col

from storage.models import Endpoint, Job, Result, Run

KINDS = ("task", "run", "contents")
"""What an endpoint or a job may be for, where it is for one result."""


def count(connection: Connection, source: str) -> int:
    """How many single runs of a source are expected, and have no result.

    A run that is known to be of a batch is in that batch's ledger. An endpoint that is not bound
    yet stands for one run, for as long as a check looks which.
    """
    expected = _expected(source).subquery()
    is_told_of = (
        select(col(Run.id))
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(
            col(Run.source) == source,
            col(Run.run_id) == expected.c.run_id,
            col(Run.batch_id).is_not(None) | col(Result.id).is_not(None),
        )
    )
    named = select(func.count()).select_from(expected).where(~is_told_of.exists())
    awaited = (
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
    return connection.execute(named).scalar_one() + connection.execute(awaited).scalar_one()


def _expected(source: str) -> CompoundSelect[Any]:
    """The runs that a source owes us by themselves: each once, whoever names it."""
    by_endpoint: Any = select(col(Endpoint.resource).label("run_id")).where(
        col(Endpoint.source) == source,
        col(Endpoint.kind).in_(KINDS),
        col(Endpoint.resource).is_not(None),
        col(Endpoint.state) != "closed",
    )
    by_job: Any = select(col(Job.subject)).where(
        col(Job.source) == source,
        col(Job.status).in_(("pending", "running", "dead")),
        col(Job.subject_kind).in_(KINDS),
        col(Job.subject).is_not(None),
    )
    known: Any = select(col(Run.run_id)).where(
        col(Run.source) == source, col(Run.batch_id).is_(None)
    )
    return union(by_endpoint, by_job, known)
