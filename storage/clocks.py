"""A clock that goes back: what was due by then must not wait until it is that late again.

Somebody has set the clock of this machine, or of the database server, or the server is another one
now. The latest moment that was seen stands in the database; an earlier one tells.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update
from sqlmodel import col

from storage.database import insert
from storage.jobs import LEASE_SECONDS
from storage.models import Job, Meta, Pace, SourceState

SEEN = "clock_seen"
NOTED = timedelta(seconds=10)
"""How often the moment is noted: a clock that goes back by less delays by less."""


def follow(connection: Connection, *, now: datetime) -> timedelta | None:
    """Note the moment; returns by how much the clock has gone back, if it has.

    Then whatever waits is due at once, which at worst asks a sender a little early; and leases,
    pauses and paces last no longer than they would from now on.
    """
    noted = connection.execute(
        select(col(Meta.value)).where(col(Meta.key) == SEEN).with_for_update()
    ).scalar()
    seen = None if noted is None else datetime.fromisoformat(noted)
    if seen is not None and seen - timedelta(seconds=1) <= now < seen + NOTED:
        return None
    text = now.isoformat()
    connection.execute(
        insert(Meta)
        .values(key=SEEN, value=text)
        .on_conflict_do_update(index_elements=["key"], set_={"value": text})
    )
    if seen is None or now >= seen:
        return None
    _hurry(connection, now)
    return seen - now


def _hurry(connection: Connection, now: datetime) -> None:
    due, lease = col(Job.next_attempt_at), col(Job.lease_until)
    until = now + timedelta(seconds=LEASE_SECONDS)
    connection.execute(
        update(Job).where(col(Job.status) == "pending", due > now).values(next_attempt_at=now)
    )
    connection.execute(
        update(Job).where(col(Job.status) == "running", lease > until).values(lease_until=until)
    )
    connection.execute(
        update(SourceState).where(col(SourceState.probe_at) > now).values(probe_at=now)
    )
    moment = now.timestamp()
    connection.execute(update(Pace).where(col(Pace.next_at) > moment).values(next_at=moment))
