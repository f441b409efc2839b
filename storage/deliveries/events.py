"""What was delivered, as people and the worker look at it: events, deliveries, dead letters."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select
from sqlmodel import col

from storage.errors import NotFound
from storage.models import Attempt, Delivery, Event, Job, Result, Run


def list_events(connection: Connection, *, source: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest events, newest first, with how often each was delivered."""
    query = (
        select(
            col(Event.id),
            col(Event.source),
            col(Event.key),
            col(Event.disposition),
            col(Event.received_at),
            select(func.sum(col(Delivery.copies) + 1))
            .where(col(Delivery.event_id) == col(Event.id))
            .scalar_subquery()
            .label("deliveries"),
            select(func.aggregate_strings(col(Job.status), ","))
            .where(col(Job.event_id) == col(Event.id))
            .scalar_subquery()
            .label("jobs"),
        )
        .order_by(col(Event.id).desc())
        .limit(limit)
    )
    if source is not None:
        query = query.where(col(Event.source) == source)
    return [dict(row._mapping) for row in connection.execute(query)]


def show_event(connection: Connection, event_id: int) -> dict[str, Any]:
    """One event with its deliveries, jobs and attempts; raises NotFound."""
    event = connection.execute(select(Event).where(col(Event.id) == event_id)).one_or_none()
    if event is None:
        raise NotFound(f"There is no event {event_id}: see `event list`.")
    deliveries = connection.execute(
        select(Delivery).where(col(Delivery.event_id) == event_id).order_by(col(Delivery.id))
    ).all()
    jobs = connection.execute(
        select(Job).where(col(Job.event_id) == event_id).order_by(col(Job.id))
    ).all()
    attempts = connection.execute(
        select(Attempt)
        .where(col(Attempt.job_id).in_([job.id for job in jobs]))
        .order_by(col(Attempt.id))
    ).all()
    return {
        **dict(event._mapping),
        "deliveries": [dict(row._mapping) for row in deliveries],
        "jobs": [dict(row._mapping) for row in jobs],
        "attempts": [dict(row._mapping) for row in attempts],
    }


def carried_bodies(connection: Connection, event_id: int) -> list[bytes]:
    """The differing bodies that an event's deliveries carried and that are kept, newest first."""
    bodies = connection.scalars(
        select(col(Delivery.body))
        .where(col(Delivery.event_id) == event_id, col(Delivery.pruned_at).is_(None))
        .order_by(col(Delivery.id).desc())
    )
    return list(bodies)


def list_dead(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """The dead letters, newest first, with the reason of each."""
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
    return [dict(row._mapping) for row in rows]


def dead_of(connection: Connection, source: str, batch_id: str) -> list[dict[str, Any]]:
    """The dead letters for a batch itself and for its runs without a result, newest first."""
    stored = select(col(Result.id)).where(col(Result.run_pk) == col(Run.id), col(Result.is_current))
    rows = connection.execute(
        select(col(Job.id), col(Job.kind), col(Job.subject), col(Job.reason), col(Job.ended_at))
        .where(col(Job.status) == "dead", _concerns(source, batch_id, ~stored.exists()))
        .order_by(col(Job.id).desc())
    )
    return [dict(row._mapping) for row in rows]


def last_attempt_of(connection: Connection, source: str, batch_id: str) -> dict[str, Any] | None:
    """The newest attempt at a batch or one of its runs."""
    row = connection.execute(
        select(
            col(Attempt.job_id), col(Attempt.started_at), col(Attempt.outcome), col(Attempt.detail)
        )
        .join(Job, col(Job.id) == col(Attempt.job_id))
        .where(_concerns(source, batch_id))
        .order_by(col(Attempt.id).desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else dict(row._mapping)


def _concerns(source: str, batch_id: str, *of_runs: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a job is about the batch, or about one of its runs (of which `of_runs` holds)."""
    run = select(col(Run.id)).where(
        col(Run.source) == source,
        col(Run.run_id) == col(Job.subject),
        col(Run.batch_id) == batch_id,
        *of_runs,
    )
    is_batch = (col(Job.subject_kind) == "batch") & (col(Job.subject) == batch_id)
    is_run = (col(Job.subject_kind) != "batch") & run.exists()
    return (col(Job.source) == source) & or_(is_batch, is_run)
