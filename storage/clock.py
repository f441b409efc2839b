"""Clocks that go back, or leap ahead, noticed by the latest time that is stored.

The clock of this machine, or of the database server, may be set, or the server be replaced. A time
earlier than the stored one means that the clock went back: jobs must not wait until it is that late
again. A much later one means that nobody served for so long, or that the clock is ahead.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, select
from sqlmodel import col

from storage.database import insert
from storage.models import Meta

SEEN = "clock_seen"
LEAPT = "clock_leapt"
FAR = timedelta(days=1)
"""A leap of this length or more is not trusted for what cannot be undone, such as pruning."""

NOTED = timedelta(seconds=10)
"""How often the time is stored: a clock that goes back by less delays jobs by less."""

LOOKED_SECONDS = 6.0
"""After so long every process has read the server's clock again; until then one may still store
times by the clock as it was."""


def is_believed(moment: datetime, now: datetime) -> bool:
    """Return False for a stored time in the future, which a clock that was ahead has stored.

    Such a time must not make current news look old.
    """
    return moment <= now + NOTED


def gone_back(connection: Connection, *, now: datetime) -> timedelta | None:
    """Return by how much the clock has gone back, or None; then the time is stored now and then.

    The caller makes waiting jobs due, and calls `note` when that is done: until then every call, in
    any process, returns it again.
    """
    seen = _kept(connection, SEEN)
    if seen is not None and now < seen - timedelta(seconds=1):
        return seen - now
    if seen is not None and now > seen + FAR:
        _keep(connection, LEAPT, now)
    if seen is None or now >= seen + NOTED:
        note(connection, now=now)
    return None


def note(connection: Connection, *, now: datetime) -> None:
    """Store `now` as the latest time, even where it is earlier than the stored one."""
    _keep(connection, SEEN, now)


def may_be_ahead(connection: Connection, *, now: datetime) -> bool:
    """Return True where the clock leapt by more than FAR since it was last stored, or within FAR.

    A pause of the service looks the same; after FAR the clock is trusted.
    """
    seen, leapt = _kept(connection, SEEN), _kept(connection, LEAPT)
    is_leap = seen is not None and now > seen + FAR
    return is_leap or (leapt is not None and leapt <= now < leapt + FAR)


def _kept(connection: Connection, key: str) -> datetime | None:
    kept = connection.execute(select(col(Meta.value)).where(col(Meta.key) == key)).scalar()
    return None if kept is None else datetime.fromisoformat(kept)


def _keep(connection: Connection, key: str, moment: datetime) -> None:
    text = moment.isoformat()
    connection.execute(
        insert(Meta)
        .values(key=key, value=text)
        .on_conflict_do_update(index_elements=["key"], set_={"value": text})
    )
