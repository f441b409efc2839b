"""Jobs made due at once after the clock went back."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, select, update
from sqlmodel import col

from storage.jobs.lease import LEASE_SECONDS
from storage.models import Job, RateLimit, SourceState

HURRY_SECONDS = 2.0
"""How long one look may go on hurrying jobs, however many there are."""

STEP_JOBS = 2_000
"""Jobs that are hurried in one transaction."""


def hurry(connection: Connection, *, now: datetime) -> int:
    """Make some pending jobs due at once, which at worst asks a sender a little early.

    Leases, pauses and rate limits end no later than new ones would. Returns how many jobs were
    hurried; call it again until that is 0.
    """
    _shorten(connection, now)
    for source in connection.scalars(_waiting_sources()).all():
        late = (
            select(col(Job.id))
            .where(
                col(Job.status) == "pending",
                col(Job.source) == source,
                col(Job.next_attempt_at) > now,
            )
            .limit(STEP_JOBS)
            .with_for_update(skip_locked=True)
        )
        hurried = connection.execute(
            update(Job).where(col(Job.id).in_(late)).values(next_attempt_at=now)
        )
        if hurried.rowcount:
            return hurried.rowcount
    return 0


def _shorten(connection: Connection, now: datetime) -> None:
    lease, until = col(Job.lease_until), now + timedelta(seconds=LEASE_SECONDS)
    connection.execute(
        update(Job).where(col(Job.status) == "running", lease > until).values(lease_until=until)
    )
    connection.execute(  # a released job keeps its due time
        update(Job)
        .where(col(Job.status) == "running", col(Job.next_attempt_at) > now)
        .values(next_attempt_at=now)
    )
    connection.execute(
        update(SourceState).where(col(SourceState.probe_at) > now).values(probe_at=now)
    )
    moment = now.timestamp()
    connection.execute(
        update(RateLimit).where(col(RateLimit.next_at) > moment).values(next_at=moment)
    )


def _waiting_sources() -> Select[str]:
    return select(col(Job.source)).where(col(Job.status) == "pending").distinct()
