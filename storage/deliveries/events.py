"""Events and their deliveries, as people and the worker read them."""

from datetime import datetime
from typing import TypedDict

from sqlalchemy import func, select
from sqlmodel import col

from storage.database import Database, as_dicts
from storage.errors import NotFound
from storage.jobs.progress import Progress
from storage.models import Attempt, Delivery, Event, Job


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


class EventStore:
    """The events of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_newest(self, *, source: str | None = None, limit: int = 100) -> list[EventRow]:
        """Return the newest events, newest first."""
        deliveries = select(func.sum(col(Delivery.copies) + 1)).where(
            col(Delivery.event_id) == col(Event.id)
        )
        jobs = select(func.aggregate_strings(col(Job.status), ",")).where(
            col(Job.event_id) == col(Event.id)
        )
        query = select(
            col(Event.id),
            col(Event.source),
            col(Event.key),
            col(Event.disposition),
            col(Event.received_at),
            deliveries.scalar_subquery().label("deliveries"),
            jobs.scalar_subquery().label("jobs"),
        )
        if source is not None:
            query = query.where(col(Event.source) == source)
        with self._database.read() as connection:
            return as_dicts(connection.execute(query.order_by(col(Event.id).desc()).limit(limit)))

    def show(self, event_id: int) -> EventDetail:
        """Return one event with its deliveries, jobs and attempts; raises NotFound."""
        deliveries = select(Delivery).where(col(Delivery.event_id) == event_id)
        deliveries = deliveries.order_by(col(Delivery.id))
        jobs = select(Job).where(col(Job.event_id) == event_id).order_by(col(Job.id))
        with self._database.read() as connection:
            found: list[EventDetail] = as_dicts(
                connection.execute(select(Event).where(col(Event.id) == event_id))
            )
            if not found:
                raise NotFound(f"There is no event {event_id}: see `event list`.")
            event = found[0]
            event["deliveries"] = as_dicts(
                connection.execute(deliveries.order_by(col(Delivery.id)))
            )
            event["jobs"] = as_dicts(connection.execute(jobs.order_by(col(Job.id))))
            attempts = select(Attempt).where(
                col(Attempt.job_id).in_([job["id"] for job in event["jobs"]])
            )
            event["attempts"] = as_dicts(connection.execute(attempts.order_by(col(Attempt.id))))
        return event

    def bodies(self, event_id: int) -> list[bytes]:
        """Return the differing bodies delivered for an event that are kept, newest first."""
        kept = (
            select(col(Delivery.body))
            .where(col(Delivery.event_id) == event_id, col(Delivery.pruned_at).is_(None))
            .order_by(col(Delivery.id).desc())
        )
        with self._database.read() as connection:
            return list(connection.scalars(kept))
