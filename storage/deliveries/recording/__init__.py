"""Recording deliveries: what was acknowledged, once for each event key.

`record` is the whole of the promise made by a 2xx: raw bytes, identity and the work they cause,
in the caller's one transaction. What is new is inserted by statements of the database's own
(`sqlite`, `postgres`), many rows at a time: this is the path whose speed is the intake's speed.
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
"""What a row can be refused with; what the database cannot do now is among them."""

InsertNew = Callable[[Connection, Mapping[bytes, VerifiedDelivery], datetime], Collection[bytes]]

_INSERT_NEW: Mapping[str, InsertNew] = {
    "sqlite": sqlite.insert_new,
    "postgresql": postgres.insert_new,
}
"""Inserts the events, by key digest, that are not there yet, with what they cause; tells which."""


def record(
    connection: Connection, group: Sequence[VerifiedDelivery], *, now: datetime
) -> list[str | Exception]:
    """Store a group; returns `accepted` or `duplicate` for each.

    Raises one of ROW_ERRORS where a row is refused; the caller's transaction then takes all of
    the group back, and `record_singly` stores the others.
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
    """The same row by row, with the error of each row that the database refuses in its place."""
    outcomes: list[str | Exception] = []
    for delivery in group:
        try:
            with connection.begin_nested():
                outcomes += record(connection, [delivery], now=now)
        except ROW_ERRORS as error:
            if is_not_now(error):  # locked or full: no row's fault
                raise
            outcomes.append(error)
    return outcomes
