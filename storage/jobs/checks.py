"""Checks: jobs that ask the sender from time to time. Their states are in `storage/jobs`."""

from datetime import datetime
from typing import Literal, TypedDict

from sqlalchemy import ColumnElement, Connection, Row, case, func, select, update
from sqlmodel import col

from storage.models import FoundBy, Job

CheckState = Literal["due", "running", "none"]


def end(
    connection: Connection,
    *,
    endpoint_id: str | None = None,
    batch: tuple[str, str] | None = None,
    now: datetime,
    keep: int = -1,
) -> None:
    """pending -> done for the checks of an endpoint or of a batch (source, id), except one job."""
    if batch is None:
        mine: ColumnElement[bool] = col(Job.endpoint_id) == endpoint_id
    else:
        mine = _about("batch", *batch)
    connection.execute(
        update(Job)
        .where(mine, *_PENDING_CHECK, col(Job.id) != keep)
        .values(status="done", ended_at=now)
    )


def due(connection: Connection, kind: str, source: str, subject: str) -> datetime | None:
    """Return when the pending check of a subject is due, or None; one may be running then."""
    return connection.execute(
        select(func.min(col(Job.next_attempt_at))).where(
            _about(kind, source, subject), *_PENDING_CHECK
        )
    ).scalar()


def live(
    connection: Connection, kind: str, source: str, subject: str | None, endpoint_id: str | None
) -> int | None:
    """Return the pending or running check of a subject or, without one, of an endpoint, or None."""
    mine = col(Job.endpoint_id) == endpoint_id
    if subject is not None:
        mine = _about(kind, source, subject)
    return connection.execute(
        select(func.min(col(Job.id))).where(
            mine, col(Job.kind) == "check", col(Job.status).in_(("pending", "running"))
        )
    ).scalar()


def newest(connection: Connection, source: str, subject: str) -> Row[str, str | None] | None:
    """Return kind and endpoint of the newest check of a run, whatever became of it, or None."""
    return connection.execute(
        select(col(Job.subject_kind), col(Job.endpoint_id))
        .where(
            col(Job.kind) == "check",
            col(Job.source) == source,
            col(Job.subject) == subject,
            col(Job.subject_kind) != "batch",
        )
        .order_by(col(Job.id).desc())
        .limit(1)
    ).one_or_none()


class NextLook(TypedDict):
    """The next look at a batch: when it is due, and True where it is being made now."""

    due: datetime
    is_running: bool


def next_look(connection: Connection, source: str, batch_id: str) -> NextLook | None:
    """Return the next look at a batch, by a check or for a webhook, or None where none is to come.

    One query for each index that finds such jobs.
    """
    live = (col(Job.kind) == "check") & col(Job.status).in_(("pending", "running"))
    found = [
        connection.execute(
            select(col(Job.status), col(Job.next_attempt_at))
            .where(_about("batch", source, batch_id), which)
            .order_by(col(Job.next_attempt_at))
        ).all()
        for which in (live, col(Job.status) == "pending", col(Job.status) == "running")
    ]
    rows = [row for part in found for row in part]
    if not rows:
        return None
    is_running = any(row.status == "running" for row in rows)
    return {"due": min(row.next_attempt_at for row in rows), "is_running": is_running}


def adopt(connection: Connection, source: str, batch_id: str, *, now: datetime) -> None:
    """pending -> done for a batch's check without endpoint, which an endpoint's check replaces."""
    connection.execute(
        update(Job)
        .where(_about("batch", source, batch_id), *_PENDING_CHECK, col(Job.endpoint_id).is_(None))
        .values(status="done", ended_at=now)
    )


def hurry(
    connection: Connection,
    kind: str,
    source: str,
    subject: str,
    *,
    due: datetime,
    by: FoundBy,
) -> None:
    """pending -> pending for the check of a subject, due at `due` at the latest.

    What it brings then was found `by` whoever made it due so soon.
    """
    is_later = col(Job.next_attempt_at) > due
    connection.execute(
        update(Job)
        .where(_about(kind, source, subject), *_PENDING_CHECK)
        .values(
            next_attempt_at=case((is_later, due), else_=col(Job.next_attempt_at)),
            hurried_by=case((is_later, by), else_=col(Job.hurried_by)),
            waits=0,
            trying_since=None,
        )
    )


def want(connection: Connection, source: str, batch_id: str, *, now: datetime) -> CheckState:
    """Have a batch checked now because somebody waits; returns the state of its check.

    One that runs already may have asked the sender too early.
    """
    hurry(connection, "batch", source, batch_id, due=now, by="wait")
    if due(connection, "batch", source, batch_id) is not None:
        return "due"
    return "running" if live(connection, "batch", source, batch_id, None) else "none"


# --- inside -------------------------------------------------------------------------------------


_PENDING_CHECK = (col(Job.kind) == "check", col(Job.status) == "pending")


def _about(kind: str, source: str, subject: str) -> ColumnElement[bool]:
    return (
        (col(Job.source) == source)
        & (col(Job.subject_kind) == kind)
        & (col(Job.subject) == subject)
    )
