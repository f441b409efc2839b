"""Paused sources: the sender refuses the account, so only a rare probe is made."""

from datetime import datetime, timedelta
from typing import Any, TypedDict

from sqlalchemy import Connection, Executable, Row, delete, func, select, update
from sqlmodel import col

from storage.database import as_dicts, insert, statement
from storage.models import Job, SourceState

LONGEST_PAUSE_SECONDS = 3_600.0

PROBE_SECONDS = 60.0
"""How long a probe may take before the next one is made."""


class PausedSource(TypedDict):
    """A paused source: since when, why, when it is probed next, and how often it was."""

    source: str
    paused_reason: str
    paused_at: datetime
    probe_at: datetime
    probes: int


def pause(connection: Connection, source: str, reason: str, *, after: float, now: datetime) -> None:
    """Stop claiming for `source`, except for a probe after `after` seconds, doubled with each.

    Jobs that run together are refused together, so only probes lengthen the pause. The time that
    jobs of the source wait does not count against them.
    """
    probes = connection.execute(
        select(col(SourceState.probes)).where(col(SourceState.source) == source)
    ).scalar()
    seconds = min(after * 2 ** min(probes or 0, 10), LONGEST_PAUSE_SECONDS)
    values = {"paused_reason": reason, "probe_at": now + timedelta(seconds=seconds)}
    if probes is None:  # it was not paused yet
        has_waited = col(Job.trying_since).is_not(None) | col(Job.missing_since).is_not(None)
        connection.execute(
            update(Job)
            .where(col(Job.source) == source, col(Job.status) == "pending", has_waited)
            .values(trying_since=None, missing_since=None)
        )
    connection.execute(
        insert(SourceState)
        .values(source=source, paused_at=now, probes=0, **values)
        .on_conflict_do_update(
            index_elements=["source"],
            set_={**values, "paused_at": func.coalesce(col(SourceState.paused_at), now)},
        )
    )


def resume(connection: Connection, source: str) -> None:
    """Claim for `source` again."""
    _resume(connection, source=source)


@statement
def _resume(source: Any) -> Executable:
    return delete(SourceState).where(col(SourceState.source) == source)


def state(connection: Connection, source: str) -> Row[Any] | None:
    """Return the pause of a source, locked until the COMMIT; None where it is not paused."""
    return _state(connection, source=source).one_or_none()


@statement
def _state(source: Any) -> Executable:
    return select(SourceState).where(col(SourceState.source) == source).with_for_update()


def list_all(connection: Connection) -> list[PausedSource]:
    """Return the paused sources."""
    return as_dicts(connection.execute(select(SourceState)))


def find(connection: Connection, source: str) -> PausedSource | None:
    """Return the pause of a source, or None where it is not paused."""
    rows = connection.execute(select(SourceState).where(col(SourceState.source) == source))
    return next(iter(as_dicts(rows)), None)


def note_probe(connection: Connection, source: str, *, now: datetime) -> None:
    """Count a probe of a paused source, and put off the next one by PROBE_SECONDS."""
    later = now + timedelta(seconds=PROBE_SECONDS)
    connection.execute(
        update(SourceState)
        .where(col(SourceState.source) == source)
        .values(probe_at=later, probes=col(SourceState.probes) + 1)
    )


def probe_now(connection: Connection, *, now: datetime) -> None:
    """Make the probe of every paused source due."""
    connection.execute(update(SourceState).values(probe_at=now))
