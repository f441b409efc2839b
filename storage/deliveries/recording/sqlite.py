"""New events on SQLite: one multi-row statement for each table, built once for each size."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult

from storage.deliveries.recording.fetch_job import fetch_job
from storage.deliveries.recording.verified import VerifiedDelivery
from storage.jobs.new import NewJob

ROWS_PER_STATEMENT = 64

_EVENTS = "INSERT INTO events (source, endpoint_id, key, key_digest, disposition, received_at)"
_UNLESS_KNOWN = " ON CONFLICT (key_digest) DO NOTHING"
_DELIVERIES = "INSERT INTO deliveries (event_id, digest, headers, body, received_at, copies)"
_JOBS = f"INSERT INTO jobs ({', '.join(NewJob._fields)})"

Row = tuple[Any, ...]


def insert_new(
    connection: Connection, group: Mapping[bytes, VerifiedDelivery], now: datetime
) -> Collection[bytes]:
    """Insert the events that are not there yet; returns their key digests."""
    at = now.strftime("%Y-%m-%d %H:%M:%S.%f")  # as the datetime columns hold it
    digests = list(group)
    ids: dict[bytes, int] = {}
    for start in range(0, len(digests), ROWS_PER_STATEMENT):
        ids |= _insert_events(connection, group, digests[start : start + ROWS_PER_STATEMENT], at)
    deliveries: list[Row] = []
    jobs: list[Row] = []
    for digest, event_id in ids.items():
        delivery = group[digest]
        deliveries.append((event_id, delivery.digest, delivery.headers, delivery.body, at, 0))
        if (status := delivery.job_status) is not None:
            progress = delivery.progress
            jobs.append(fetch_job(delivery, event_id, status=status, progress=progress, now=at))
    _insert_many(connection, _DELIVERIES, deliveries)
    _insert_many(connection, _JOBS, jobs)
    return ids


def _insert_events(
    connection: Connection, group: Mapping[bytes, VerifiedDelivery], digests: list[bytes], at: str
) -> dict[bytes, int]:
    """Insert the new events of a part; returns their ids by key digest.

    RETURNING would give the ids too, but the driver frees the GIL for every row that it reads, and
    the event loop then keeps the writer waiting for it. SQLite numbers the rows of one statement
    without gaps, so that the last id gives the others.
    """
    rows = [_event(group[digest], digest, at) for digest in digests]
    inserted = _insert(connection, _multi_row(_EVENTS, len(rows)) + _UNLESS_KNOWN, rows)
    before = inserted.lastrowid - inserted.rowcount
    if inserted.rowcount == len(rows):
        return dict(zip(digests, range(before + 1, inserted.lastrowid + 1), strict=True))
    if inserted.rowcount == 0:
        return {}
    found = connection.exec_driver_sql(
        "SELECT key_digest, id FROM events WHERE id > ?", (before,)
    ).all()
    return {row.key_digest: row.id for row in found}


def _event(delivery: VerifiedDelivery, digest: bytes, at: str) -> Row:
    endpoint_id, key = delivery.endpoint_id, delivery.key
    return (delivery.source, endpoint_id, key, digest, delivery.disposition, at)


def _insert_many(connection: Connection, head: str, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        part = rows[start : start + ROWS_PER_STATEMENT]
        _insert(connection, _multi_row(head, len(part)), part)


def _insert(connection: Connection, statement: str, rows: Sequence[Row]) -> CursorResult[Any]:
    flat = tuple(value for row in rows for value in row)
    return connection.exec_driver_sql(statement, flat)


@cache
def _multi_row(head: str, rows: int) -> str:
    columns = head.count(",") + 1
    row = "(" + ", ".join("?" * columns) + ")"
    return f"{head} VALUES {', '.join([row] * rows)}"
