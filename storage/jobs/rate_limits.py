"""Rate limits of sources, over all processes: when the next call of each may be made."""

from datetime import datetime

from sqlalchemy import Connection, case
from sqlmodel import col

from storage.database import insert
from storage.models import RateLimit


def book(
    connection: Connection, source: str, count: int, interval: float, *, now: datetime
) -> float:
    """Book `count` calls, `interval` seconds apart; returns the seconds to wait for the first.

    Time that passed without calls is not saved up.
    """
    moment, span = now.timestamp(), count * interval
    free_at = case((col(RateLimit.next_at) > moment, col(RateLimit.next_at)), else_=moment)
    booked = connection.execute(
        insert(RateLimit)
        .values(source=source, next_at=moment + span)
        .on_conflict_do_update(index_elements=["source"], set_={"next_at": free_at + span})
        .returning(col(RateLimit.next_at))
    ).scalar_one()
    return max(0.0, booked - span - moment)


def hold(connection: Connection, source: str, seconds: float, *, now: datetime) -> None:
    """Let no call be booked before `seconds` have passed; a longer hold stays."""
    until = now.timestamp() + seconds
    later = case((col(RateLimit.next_at) > until, col(RateLimit.next_at)), else_=until)
    connection.execute(
        insert(RateLimit)
        .values(source=source, next_at=until)
        .on_conflict_do_update(index_elements=["source"], set_={"next_at": later})
    )
