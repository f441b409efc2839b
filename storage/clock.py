"""A clock that goes back: what was due by then must not wait until it is that late again.

Somebody has set the clock of this machine, or of the database server, or the server is another one
now. The latest moment that was seen stands in the database; an earlier one tells. So does one that
is much later: either nobody served for so long, or the clock is ahead.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, select
from sqlmodel import col

from storage.database import insert
from storage.models import Meta

SEEN = "clock_seen"
LEAPT = "clock_leapt"
FAR = timedelta(days=1)
"""A moment so long after the last one that was seen is not believed by what cannot be undone."""

NOTED = timedelta(seconds=10)
"""How often the moment is noted: a clock that goes back by less delays by less."""

LOOKED_SECONDS = 6.0
"""After so long every process has looked at the server's clock; until then one may still note what
comes by the clock as it was."""


def is_believed(moment: datetime, now: datetime) -> bool:
    """Whether a moment that we noted can be true; one to come was noted by a clock that was ahead.

    What such a clock noted must not make what comes now look old.
    """
    return moment <= now + NOTED


def gone_back(connection: Connection, *, now: datetime) -> timedelta | None:
    """By how much the clock has gone back, if it has; else the moment is noted now and then.

    Whoever is told so hurries what waits, and notes the moment when that is done: until then it is
    told again, here and elsewhere.
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
    """This is the latest moment from now on."""
    _keep(connection, SEEN, now)


def may_be_ahead(connection: Connection, *, now: datetime) -> bool:
    """Whether the clock has leapt over more than FAR since it was last seen, or did within FAR.

    A service that nobody ran for so long looks the same; it is believed a day later.
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
