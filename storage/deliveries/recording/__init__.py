"""Recording of deliveries, each event key once.

`record` keeps the promise of a 2xx: raw bytes, identity and the job that they cause are stored in
the caller's one transaction. Each database has its own statements for new events (`sqlite`,
`postgres`), with many rows at a time, since the intake is only as fast as this path.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, InterfaceError, StatementError

from storage.database import is_not_now
from storage.deliveries.recording import postgres, sqlite
from storage.deliveries.recording.repeats import MAX_BODIES, record_repeats
from storage.deliveries.recording.verified import VerifiedDelivery

__all__ = ["MAX_BODIES", "ROW_ERRORS", "VerifiedDelivery", "record", "record_singly"]

ROW_ERRORS = (DatabaseError, InterfaceError, StatementError, OverflowError, ValueError)
"""Errors of a refused row; those of a database that cannot work now are among them."""

InsertNew = Callable[[Connection, Mapping[bytes, VerifiedDelivery], datetime], Collection[bytes]]

_INSERT_NEW: Mapping[str, InsertNew] = {
    "sqlite": sqlite.insert_new,
    "postgresql": postgres.insert_new,
}
"""By database: inserts the new ones of the given events with their jobs; returns their digests."""


def record(
    connection: Connection, group: Sequence[VerifiedDelivery], *, now: datetime
) -> list[str | Exception]:
    """Store a group; returns `accepted` or `duplicate` for each.

    Raises one of ROW_ERRORS where a row is refused; the caller's transaction then rolls the whole
    group back, and `record_singly` stores the other rows.
    """
    digests = [delivery.key_digest for delivery in group]
    firsts: dict[bytes, VerifiedDelivery] = {}
    for digest, delivery in zip(digests, group, strict=True):
        firsts.setdefault(digest, delivery)
    new = set(_INSERT_NEW[connection.dialect.name](connection, firsts, now))
    if len(new) == len(group):
        return ["accepted"] * len(group)
    outcomes: list[str | Exception] = []
    repeats = []
    for digest, delivery in zip(digests, group, strict=True):
        if digest in new:
            new.remove(digest)
            outcomes.append("accepted")
        else:
            outcomes.append("duplicate")
            repeats.append((digest, delivery))
    gone = record_repeats(connection, repeats, now)
    if gone:
        record(connection, [each for digest, each in repeats if digest in gone], now=now)
    return outcomes


def record_singly(
    connection: Connection, group: Sequence[VerifiedDelivery], *, now: datetime
) -> list[str | Exception]:
    """Store a group row by row; returns the error in place of the outcome of a refused row."""
    outcomes: list[str | Exception] = []
    for delivery in group:
        try:
            with connection.begin_nested():
                outcomes += record(connection, [delivery], now=now)
        except ROW_ERRORS as error:
            if is_not_now(error):  # locked or full, which is no row's fault
                raise
            outcomes.append(error)
    return outcomes
