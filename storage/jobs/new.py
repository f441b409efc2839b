"""A fresh job: the one list of its columns, with what each of them is at the beginning."""

from datetime import datetime
from typing import NamedTuple

from storage.jobs.progress import Progress

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
    return NewJob(
        kind=kind,
        source=source,
        subject_kind=subject_kind,
        subject=subject,
        endpoint_id=endpoint_id,
        event_id=event_id,
        status=status,
        next_attempt_at=due,
        progress=progress,
        reason=reason,
        created_at=now,
        ended_at=now if status == "dead" else None,
    )
