"""Dead letters and attempts, as people read them."""

from datetime import datetime
from typing import TypedDict

from sqlalchemy import ColumnElement, Connection, func, or_, select
from sqlmodel import col

from storage.database import as_dicts
from storage.models import Attempt, Job, Result, Run


class DeadLetter(TypedDict):
    """A job that ended as a dead letter, with the reason."""

    id: int
    kind: str
    source: str
    subject_kind: str
    subject: str | None
    event_id: int | None
    failures: int
    reason: str
    ended_at: datetime | None


class BatchDeadLetter(TypedDict):
    """A dead letter that keeps a result of a batch away."""

    id: int
    kind: str
    subject: str | None
    reason: str
    ended_at: datetime | None


class LastAttempt(TypedDict):
    """The newest attempt at a batch or one of its runs."""

    job_id: int
    started_at: datetime
    outcome: str
    detail: str | None


def list_dead(connection: Connection, *, limit: int) -> list[DeadLetter]:
    """Return the dead letters, newest first, with the reason of each."""
    rows = connection.execute(
        select(
            col(Job.id),
            col(Job.kind),
            col(Job.source),
            col(Job.subject_kind),
            col(Job.subject),
            col(Job.event_id),
            col(Job.failures),
            col(Job.reason),
            col(Job.ended_at),
        )
        .where(col(Job.status) == "dead")
        .order_by(col(Job.id).desc())
        .limit(limit)
    )
    return as_dicts(rows)


def dead_of(connection: Connection, source: str, batch_id: str) -> list[BatchDeadLetter]:
    """Return the dead letters for a batch and for its runs without a result, newest first."""
    stored = select(col(Result.id)).where(col(Result.run_pk) == col(Run.id), col(Result.is_current))
    rows = connection.execute(
        select(col(Job.id), col(Job.kind), col(Job.subject), col(Job.reason), col(Job.ended_at))
        .where(col(Job.status) == "dead", _concerns(source, batch_id, ~stored.exists()))
        .order_by(col(Job.id).desc())
    )
    return as_dicts(rows)


RECENT = 10_000
"""Attempts among which a batch's newest is looked for: those of other batches may be millions."""


def last_attempt_of(connection: Connection, source: str, batch_id: str) -> LastAttempt | None:
    """Return the newest attempt at a batch or one of its runs, or None.

    It is the newest one of the batch's own checks, which are found by an index, unless one of the
    RECENT attempts of all is newer.
    """
    newest = select(func.max(col(Attempt.id))).scalar_subquery()
    is_recent = (col(Attempt.id) > newest - RECENT) & _concerns(source, batch_id)
    is_check = (col(Job.kind) == "check") & _is_about(source, batch_id)
    found = [
        row
        for which in (is_recent, is_check)
        for row in connection.execute(
            select(
                col(Attempt.id),
                *(col(getattr(Attempt, name)) for name in LastAttempt.__annotations__),
            )
            .join(Job, col(Job.id) == col(Attempt.job_id))
            .where(which)
            .order_by(col(Attempt.id).desc())
            .limit(1)
        )
    ]
    rows = as_dicts(sorted(found, key=lambda row: int(row.id)))
    for row in rows:
        del row["id"]
    return rows[-1] if rows else None


def _concerns(source: str, batch_id: str, *of_runs: ColumnElement[bool]) -> ColumnElement[bool]:
    """Select jobs about the batch, or about those of its runs for which `of_runs` holds."""
    run = select(col(Run.id)).where(
        col(Run.source) == source,
        col(Run.run_id) == col(Job.subject),
        col(Run.batch_id) == batch_id,
        *of_runs,
    )
    is_run = (col(Job.source) == source) & (col(Job.subject_kind) != "batch") & run.exists()
    return or_(_is_about(source, batch_id), is_run)


def _is_about(source: str, batch_id: str) -> ColumnElement[bool]:
    """Select jobs about the batch as a whole."""
    is_batch = (col(Job.subject_kind) == "batch") & (col(Job.subject) == batch_id)
    return (col(Job.source) == source) & is_batch
