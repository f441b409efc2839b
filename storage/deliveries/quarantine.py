"""Requests that were refused, kept for the operator within fixed bounds."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy import Connection, delete, func, select
from sqlmodel import col

from storage.database import as_dicts, insert
from storage.errors import NotFound
from storage.models import Quarantined

MAX_BODY_BYTES = 64 * 1024
MAX_ROWS = 1_000
MAX_BYTES = 100 * 1024 * 1024
MAX_AGE = timedelta(days=7)
OLD_AT_ONCE = 16
"""Rows whose age is read each time: it is stored behind the body, so that reading it costs."""


@dataclass(frozen=True, slots=True)
class UnverifiedDelivery:
    """A request that proved nothing, with the reason for the operator.

    `received_at` is when it arrived, which may be a while before it is kept.
    """

    source: str
    endpoint_id: str | None
    reason: str
    detail: str
    headers: str
    body: bytes
    received_at: datetime | None = None


class RejectedRow(TypedDict):
    """A refused request as it is listed: without headers and body."""

    id: int
    source: str
    endpoint_id: str | None
    reason: str
    detail: str
    body_bytes: int
    received_at: datetime


class RejectedDetail(RejectedRow):
    """A refused request with the headers and, cut to MAX_BODY_BYTES, the body."""

    headers: str
    body: bytes


def keep(connection: Connection, refused: UnverifiedDelivery, *, now: datetime) -> None:
    """Keep a refused request, cut to MAX_BODY_BYTES, and let go of the oldest over the bounds."""
    connection.execute(
        insert(Quarantined).values(
            source=refused.source,
            endpoint_id=refused.endpoint_id,
            reason=refused.reason,
            detail=refused.detail,
            headers=refused.headers,
            body=refused.body[:MAX_BODY_BYTES],
            body_bytes=len(refused.body),
            received_at=refused.received_at or now,
        )
    )
    _let_go(connection, now)


def _let_go(connection: Connection, now: datetime) -> None:
    """Delete what is over the bounds, in time that does not grow with what is kept.

    This runs between two acks.
    """
    key, size = col(Quarantined.id), func.length(col(Quarantined.body))
    first_too_many = select(key).order_by(key.desc()).offset(MAX_ROWS).limit(1)
    oldest = select(key, col(Quarantined.received_at)).order_by(key).limit(OLD_AT_ONCE).subquery()
    too_old = select(oldest.c.id).where(oldest.c.received_at < now - MAX_AGE)
    connection.execute(delete(Quarantined).where(key <= first_too_many.scalar_subquery()))
    connection.execute(delete(Quarantined).where(key.in_(too_old)))
    if (connection.execute(select(func.sum(size))).scalar() or 0) > MAX_BYTES:
        sizes = select(key, func.sum(size).over(order_by=key.desc()).label("bytes")).subquery()
        beyond = select(sizes.c.id).where(sizes.c.bytes > MAX_BYTES)
        connection.execute(delete(Quarantined).where(key.in_(beyond)))


def list_all(connection: Connection, *, limit: int) -> list[RejectedRow]:
    """Return the newest refused requests, newest first, without their bodies."""
    rows = connection.execute(
        select(
            col(Quarantined.id),
            col(Quarantined.source),
            col(Quarantined.endpoint_id),
            col(Quarantined.reason),
            col(Quarantined.detail),
            col(Quarantined.body_bytes),
            col(Quarantined.received_at),
        )
        .order_by(col(Quarantined.id).desc())
        .limit(limit)
    )
    return as_dicts(rows)


def ids(connection: Connection, *, source: str | None) -> list[int]:
    """Return the ids of the refused requests, oldest first."""
    query = select(col(Quarantined.id)).order_by(col(Quarantined.id))
    if source is not None:
        query = query.where(col(Quarantined.source) == source)
    return [row.id for row in connection.execute(query)]


def show(connection: Connection, rejected_id: int) -> RejectedDetail:
    """Return one refused request with headers and body; raises NotFound."""
    found: list[RejectedDetail] = as_dicts(
        connection.execute(select(Quarantined).where(col(Quarantined.id) == rejected_id))
    )
    if not found:
        raise _missing(rejected_id)
    return found[0]


def remove(connection: Connection, rejected_id: int) -> None:
    """Take one out; raises NotFound where another process has."""
    removed = connection.execute(delete(Quarantined).where(col(Quarantined.id) == rejected_id))
    if removed.rowcount != 1:
        raise _missing(rejected_id)


def _missing(rejected_id: int) -> NotFound:
    return NotFound(f"There is no refused request {rejected_id}: see `rejected list`.")
