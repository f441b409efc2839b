"""Deliveries and events: what was acknowledged, once for each event key.

`record` is the whole of the promise made by a 2xx: raw bytes, identity and the work they cause,
in the caller's one transaction. Its statements are sent as text, many rows at a time: this is the
path whose speed is the intake's speed.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, func, or_, select
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError, StatementError
from sqlmodel import col

from storage.database import stamp
from storage.errors import NotFound
from storage.models import Attempt, Delivery, Event, Job, Result, Run

MAX_BODIES = 5
"""Differing bodies kept for one event key; further ones are fetched for, but only counted."""

ROWS_PER_STATEMENT = 64


@dataclass(slots=True)  # not frozen: one is made for each delivery, and freezing doubles its cost
class VerifiedDelivery:
    """A request proven genuine, with the identity that its signature covers.

    `disposition` is `fetch` (a job is made for `subject`), `ignored` (recorded only) or `unusable`
    (a dead letter from birth, `reason` says why). `awaits_end` is False where the sender announced
    something else than an end, so that looking once is enough. `hints` stand in the job's progress
    from the beginning.
    """

    source: str
    endpoint_id: str | None
    key: str
    disposition: str
    subject_kind: str
    subject: str | None
    headers: str
    body: bytes
    digest: bytes
    reason: str | None = None
    awaits_end: bool = True
    hints: Mapping[str, Any] | None = None

    @property
    def key_digest(self) -> bytes:
        """The 16 bytes that stand for (source, event key) in the unique index."""
        text = f"{self.source}\x00{self.key}".encode()
        return hashlib.blake2b(text, digest_size=16).digest()


def record(
    connection: Connection, group: Sequence[VerifiedDelivery], *, now: datetime
) -> list[str | Exception]:
    """Store a group; returns `accepted` or `duplicate` for each.

    Raises one of ROW_ERRORS where a row is refused; the caller's transaction then takes all of
    the group back, and `record_singly` stores the others.
    """
    return list(_record(connection, group, now))


def record_singly(
    connection: Connection, group: Sequence[VerifiedDelivery], *, now: datetime
) -> list[str | Exception]:
    """The same row by row, with the error of each row that the database refuses in its place."""
    outcomes: list[str | Exception] = []
    for delivery in group:
        try:
            with connection.begin_nested():
                outcomes += _record(connection, [delivery], now)
        except OperationalError:  # locked or full: no row's fault
            raise
        except ROW_ERRORS as error:
            outcomes.append(error)
    return outcomes


ROW_ERRORS = (DatabaseError, InterfaceError, StatementError, OverflowError, ValueError)
"""What a row can be refused with; OperationalError is among them, but no row's fault."""


def _record(connection: Connection, group: Sequence[VerifiedDelivery], now: datetime) -> list[str]:
    at = stamp(now)
    digests = [delivery.key_digest for delivery in group]
    new_ids: dict[bytes, int] = {}
    for start in range(0, len(group), ROWS_PER_STATEMENT):
        end = start + ROWS_PER_STATEMENT
        new_ids.update(_insert_events(connection, group[start:end], digests[start:end], at))
    outcomes, repeats = [], []
    deliveries: list[tuple[Any, ...]] = []
    jobs: list[tuple[Any, ...]] = []
    for delivery, digest in zip(group, digests, strict=True):
        event_id = new_ids.pop(digest, None)
        if event_id is None:
            outcomes.append("duplicate")
            repeats.append((digest, delivery))
            continue
        outcomes.append("accepted")
        deliveries.append((event_id, delivery.digest, delivery.headers, delivery.body, at, 0))
        if delivery.disposition != "ignored":
            jobs.append(_job(delivery, event_id, at))
    _insert_many(connection, _DELIVERIES, deliveries)
    _insert_many(connection, _JOBS, jobs)
    if repeats:
        _record_repeats(connection, repeats, at)
    return outcomes


def _insert_events(
    connection: Connection, group: Sequence[VerifiedDelivery], digests: list[bytes], at: str
) -> Iterable[tuple[bytes, int]]:
    """Insert what is new of a group; returns its key digests and ids.

    RETURNING would tell as much, but the driver lets go of the GIL for every row that it brings,
    and the event loop then keeps the writer waiting for it. SQLite numbers the rows of one
    statement without a gap, so that the last number tells the others.
    """
    rows = [
        (d.source, d.endpoint_id, d.key, digest, d.disposition, at)
        for d, digest in zip(group, digests, strict=True)
    ]
    inserted = _insert(connection, _multi_row(_EVENTS, len(rows)) + _UNLESS_KNOWN, rows)
    before = inserted.lastrowid - inserted.rowcount
    if inserted.rowcount == len(rows):
        return zip(digests, range(before + 1, inserted.lastrowid + 1), strict=True)
    if inserted.rowcount == 0:
        return ()
    return connection.exec_driver_sql(
        "SELECT key_digest, id FROM events WHERE id > ?", (before,)
    ).all()


def _insert(
    connection: Connection, statement: str, rows: list[tuple[Any, ...]]
) -> CursorResult[Any]:
    flat = tuple(value for row in rows for value in row)
    return connection.exec_driver_sql(statement, flat)


def _insert_many(connection: Connection, head: str, rows: list[tuple[Any, ...]]) -> None:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        part = rows[start : start + ROWS_PER_STATEMENT]
        _insert(connection, _multi_row(head, len(part)), part)


def _job(
    delivery: VerifiedDelivery, event_id: int, at: str, *, again: bool = False
) -> tuple[Any, ...]:
    dead = delivery.disposition == "unusable"
    return (
        "fetch",
        delivery.source,
        delivery.subject_kind,
        delivery.subject,
        delivery.endpoint_id,
        event_id,
        "dead" if dead else "pending",
        at,
        _progress(delivery, again=again),
        delivery.reason,
        at,
        at if dead else None,
        *(0, 0, 0),
    )


def _progress(delivery: VerifiedDelivery, *, again: bool) -> str | None:
    if again:  # what is here already does not answer an event that came with another body
        return json.dumps({"again": True, "awaits_end": delivery.awaits_end})
    if delivery.hints is not None:
        return json.dumps({**delivery.hints, "awaits_end": delivery.awaits_end})
    return None if delivery.awaits_end else '{"awaits_end": false}'


_UNLESS_KNOWN = " ON CONFLICT (key_digest) DO NOTHING"
_EVENTS = "INSERT INTO events (source, endpoint_id, key, key_digest, disposition, received_at)"
_DELIVERIES = "INSERT INTO deliveries (event_id, digest, headers, body, received_at, copies)"
_JOBS = (
    "INSERT INTO jobs (kind, source, subject_kind, subject, endpoint_id, event_id, status,"
    " next_attempt_at, progress, reason, created_at, ended_at, claims, failures, waits)"
)


@cache
def _multi_row(head: str, rows: int) -> str:
    columns = head.count(",") + 1
    row = "(" + ", ".join("?" * columns) + ")"
    return f"{head} VALUES {', '.join([row] * rows)}"


def _record_repeats(
    connection: Connection, repeats: list[tuple[bytes, VerifiedDelivery]], at: str
) -> None:
    """Count equal bodies; keep differing ones and fetch again, for the sender's API decides."""
    counts = Counter((digest, delivery.digest) for digest, delivery in repeats)
    samples: dict[tuple[bytes, bytes], VerifiedDelivery] = {}
    for digest, delivery in repeats:
        samples.setdefault((digest, delivery.digest), delivery)
    for (key_digest, body_digest), copies in counts.items():
        event_id = connection.exec_driver_sql(
            "SELECT id FROM events WHERE key_digest = ?", (key_digest,)
        ).scalar_one()
        counted = connection.exec_driver_sql(
            "UPDATE deliveries SET copies = copies + ?, last_copy_at = ?"
            " WHERE event_id = ? AND digest = ?",
            (copies, at, event_id, body_digest),
        )
        if counted.rowcount == 0:
            _keep_other_body(connection, event_id, samples[key_digest, body_digest], copies, at)


def _keep_other_body(
    connection: Connection, event_id: int, delivery: VerifiedDelivery, copies: int, at: str
) -> None:
    kept = connection.exec_driver_sql(
        "SELECT count(*), max(id) FROM deliveries WHERE event_id = ?", (event_id,)
    ).one()
    if kept[0] >= MAX_BODIES:
        connection.exec_driver_sql(
            "UPDATE deliveries SET copies = copies + ?, last_copy_at = ? WHERE id = ?",
            (copies, at, kept[1]),
        )
        if _is_fetch_pending(connection, event_id):
            return
    else:
        row = (event_id, delivery.digest, delivery.headers, delivery.body, at, copies - 1)
        _insert_many(connection, _DELIVERIES, [row])
        if copies > 1:
            connection.exec_driver_sql(
                "UPDATE deliveries SET last_copy_at = ? WHERE event_id = ? AND digest = ?",
                (at, event_id, delivery.digest),
            )
    if delivery.disposition != "ignored":
        _insert_many(connection, _JOBS, [_job(delivery, event_id, at, again=True)])


def _is_fetch_pending(connection: Connection, event_id: int) -> bool:
    """Whether a fetch for this event is still to come, and will see what is new."""
    found = connection.exec_driver_sql(
        "SELECT 1 FROM jobs WHERE event_id = ? AND status = 'pending'", (event_id,)
    )
    return found.first() is not None


# --- reading ------------------------------------------------------------------------------------


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
            select(func.group_concat(col(Job.status)))
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
        .where(col(Delivery.event_id) == event_id)
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
