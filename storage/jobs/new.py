"""Fresh jobs: the one list of their columns and first values, and the INSERT."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, update
from sqlmodel import col

from storage.database import insert
from storage.jobs.progress import Progress
from storage.json_text import clean
from storage.models import FoundBy, Job

Moment = datetime | str
"""A time as the statement takes it: SQLite's own statements take its text."""


class NewJob(NamedTuple):
    """The row of a fresh job, column by column. The columns that it does not name are NULL."""

    kind: str
    source: str
    subject_kind: str
    subject: str | None
    endpoint_id: str | None
    event_id: int | None
    status: str
    next_attempt_at: Moment
    progress: Progress | str | None
    reason: str | None
    created_at: Moment
    ended_at: Moment | None
    claims: int = 0
    failures: int = 0
    waits: int = 0


def new_job(
    kind: str,
    *,
    source: str,
    subject_kind: str,
    subject: str | None,
    endpoint_id: str | None,
    event_id: int | None = None,
    status: str = "pending",
    due: Moment,
    progress: Progress | str | None = None,
    reason: str | None = None,
    now: Moment,
) -> NewJob:
    """Return the row of a job that is made at `now` and due at `due`; a dead one has ended."""
    ended_at = now if status == "dead" else None
    return NewJob(  # by position, which is quicker: one is made for each delivery
        kind,
        source,
        subject_kind,
        subject,
        endpoint_id,
        event_id,
        status,
        due,
        progress,
        reason,
        now,
        ended_at,
    )


def enqueue(connection: Connection, job: NewJob) -> None:
    """Add a job; a second live check job for the same endpoint changes nothing."""
    if job.progress:
        job = job._replace(progress=clean(job.progress))
    connection.execute(insert(Job).values(job._asdict()).on_conflict_do_nothing())


def enqueue_one(connection: Connection, job: NewJob, *, by: FoundBy) -> int:
    """Add a job that no other can stand in for, made `by` whoever wants it; returns its id."""
    values = {**job._asdict(), "hurried_by": by}
    added: Any = connection.execute(insert(Job).values(values).returning(col(Job.id)))
    return int(added.scalar_one())


def learn_subject(connection: Connection, endpoint_id: str, subject: str) -> None:
    """Set the subject of an endpoint's jobs that have none, once the endpoint is bound."""
    connection.execute(
        update(Job)
        .where(col(Job.endpoint_id) == endpoint_id, col(Job.subject).is_(None))
        .values(subject=subject)
    )
