"""Requests that were refused, kept for the operator within fixed bounds."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy import Connection, delete, func, select
from sqlmodel import col

from storage.database import Database, as_dicts, insert
from storage.deliveries import recording
from storage.deliveries.recording import VerifiedDelivery
from storage.errors import CannotStore, NotFound
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
    """Keep a refused request, cut to MAX_BODY_BYTES, and delete the oldest over the bounds."""
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
    _delete_beyond(connection, now)


def _delete_beyond(connection: Connection, now: datetime) -> None:
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


class QuarantineStore:
    """The refused requests of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, refused: UnverifiedDelivery) -> None:
        """Keep a refused request within the quarantine's bounds."""
        self._database.write(lambda c: keep(c, refused, now=self._database.now()))

    def list_newest(
        self, *, source: str | None = None, endpoint_id: str | None = None, limit: int = 100
    ) -> list[RejectedRow]:
        """Return the newest refused requests, newest first, without their bodies."""
        columns = [col(getattr(Quarantined, name)) for name in RejectedRow.__annotations__]
        newest = select(*columns).order_by(col(Quarantined.id).desc()).limit(limit)
        if source is not None:
            newest = newest.where(col(Quarantined.source) == source)
        if endpoint_id is not None:
            newest = newest.where(col(Quarantined.endpoint_id) == endpoint_id)
        with self._database.read() as connection:
            return as_dicts(connection.execute(newest))

    def ids(self, *, source: str | None = None) -> list[int]:
        """Return the ids of the refused requests, oldest first."""
        query = select(col(Quarantined.id)).order_by(col(Quarantined.id))
        if source is not None:
            query = query.where(col(Quarantined.source) == source)
        with self._database.read() as connection:
            return [row.id for row in connection.execute(query)]

    def show(self, rejected_id: int) -> RejectedDetail:
        """Return one refused request with headers and body; raises NotFound."""
        with self._database.read() as connection:
            found: list[RejectedDetail] = as_dicts(
                connection.execute(select(Quarantined).where(col(Quarantined.id) == rejected_id))
            )
        if not found:
            raise _missing(rejected_id)
        return found[0]

    def admit(self, rejected_id: int, delivery: VerifiedDelivery) -> str:
        """Record a refused request that has proven genuine: `accepted` or `duplicate`.

        It leaves the quarantine in the same transaction; raises NotFound where it has left before.
        """

        def work(connection: Connection) -> str | Exception:
            removed = connection.execute(
                delete(Quarantined).where(col(Quarantined.id) == rejected_id)
            )
            if removed.rowcount != 1:
                raise _missing(rejected_id)
            (outcome,) = recording.record(connection, [delivery], now=self._database.now())
            return outcome

        try:
            return str(self._database.write(work))
        except recording.ROW_ERRORS as error:
            raise CannotStore(f"The delivery could not be stored: {error}.") from error


def _missing(rejected_id: int) -> NotFound:
    return NotFound(f"There is no refused request {rejected_id}: see `rejected list`.")
