"""Events, deliveries and dead letters, as people and the worker read them."""

from datetime import datetime
from typing import TypedDict

from sqlalchemy import ColumnElement, Connection, func, or_, select
from sqlmodel import col

from storage.database import as_dicts
from storage.errors import NotFound
from storage.jobs.progress import Progress
from storage.models import Attempt, Delivery, Event, Job, Result, Run


class EventRow(TypedDict):
    """An event as it is listed: how often it was delivered, and its jobs' statuses with commas."""

    id: int
    source: str
    key: str
    disposition: str
    received_at: datetime
    deliveries: int
    jobs: str | None


class DeliveryRow(TypedDict):
    """A delivery of an event, as it is stored."""

    id: int
    event_id: int
    digest: bytes
    headers: str
    body: bytes
    received_at: datetime
    copies: int
    last_copy_at: datetime | None
    pruned_at: datetime | None


class JobRow(TypedDict):
    """A job of an event, as it is stored."""

    id: int
    kind: str
    source: str
    subject_kind: str
    subject: str | None
    endpoint_id: str | None
    event_id: int | None
    status: str
    claims: int
    failures: int
    waits: int
    next_attempt_at: datetime
    lease_token: str | None
    lease_until: datetime | None
    progress: Progress | None
    reason: str | None
    created_at: datetime
    trying_since: datetime | None
    missing_since: datetime | None
    ended_at: datetime | None


class AttemptRow(TypedDict):
    """An attempt at a job, as it is stored."""

    id: int
    job_id: int
    started_at: datetime
    milliseconds: float
    outcome: str
    detail: str | None


class EventDetail(TypedDict):
    """An event with all that hangs on it."""

    id: int
    source: str
    endpoint_id: str | None
    key: str
    key_digest: bytes
    disposition: str
    received_at: datetime
    deliveries: list[DeliveryRow]
    jobs: list[JobRow]
    attempts: list[AttemptRow]


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


def list_events(connection: Connection, *, source: str | None, limit: int) -> list[EventRow]:
    """Return the newest events, newest first."""
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
    return as_dicts(connection.execute(query))


def show_event(connection: Connection, event_id: int) -> EventDetail:
    """Return one event with its deliveries, jobs and attempts; raises NotFound."""
    found = as_dicts(connection.execute(select(Event).where(col(Event.id) == event_id)))
    if not found:
        raise NotFound(f"There is no event {event_id}: see `event list`.")
    event: EventDetail = found[0]
    jobs = as_dicts(
        connection.execute(select(Job).where(col(Job.event_id) == event_id).order_by(col(Job.id)))
    )
    deliveries = select(Delivery).where(col(Delivery.event_id) == event_id)
    attempts = select(Attempt).where(col(Attempt.job_id).in_([job["id"] for job in jobs]))
    event["deliveries"] = as_dicts(connection.execute(deliveries.order_by(col(Delivery.id))))
    event["jobs"] = jobs
    event["attempts"] = as_dicts(connection.execute(attempts.order_by(col(Attempt.id))))
    return event


def carried_bodies(connection: Connection, event_id: int) -> list[bytes]:
    """Return the differing bodies that were delivered for an event and are kept, newest first."""
    bodies = connection.scalars(
        select(col(Delivery.body))
        .where(col(Delivery.event_id) == event_id, col(Delivery.pruned_at).is_(None))
        .order_by(col(Delivery.id).desc())
    )
    return list(bodies)


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


def last_attempt_of(connection: Connection, source: str, batch_id: str) -> LastAttempt | None:
    """Return the newest attempt at a batch or one of its runs, or None."""
    rows = connection.execute(
        select(
            col(Attempt.job_id), col(Attempt.started_at), col(Attempt.outcome), col(Attempt.detail)
        )
        .join(Job, col(Job.id) == col(Attempt.job_id))
        .where(_concerns(source, batch_id))
        .order_by(col(Attempt.id).desc())
        .limit(1)
    )
    return next(iter(as_dicts(rows)), None)


def _concerns(source: str, batch_id: str, *of_runs: ColumnElement[bool]) -> ColumnElement[bool]:
    """Select jobs about the batch, or about those of its runs for which `of_runs` holds."""
    run = select(col(Run.id)).where(
        col(Run.source) == source,
        col(Run.run_id) == col(Job.subject),
        col(Run.batch_id) == batch_id,
        *of_runs,
    )
    is_batch = (col(Job.subject_kind) == "batch") & (col(Job.subject) == batch_id)
    is_run = (col(Job.subject_kind) != "batch") & run.exists()
    return (col(Job.source) == source) & or_(is_batch, is_run)
