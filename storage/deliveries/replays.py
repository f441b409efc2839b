"""Events chosen by a filter, and worked on again: counted first, then replayed in chunks.

A dead letter waits to be attempted again, as `dead replay` does it; of an event whose job is done
another job is made, which fetches although a result is here. An event whose job is pending or
running is left alone, so that a repeated replay changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import ColumnElement, Connection, Select, exists, func, literal_column, or_, select
from sqlmodel import col

from storage import jobs
from storage.database import Database, as_dicts
from storage.models import Event, Job, Run

CHUNK = 500
"""Events that are replayed in one transaction."""

_OVER = ("dead", "done", "abandoned")
_WORDS: Mapping[str, Any] = {
    name: literal_column(f"'{name}'") for name in (*_OVER, "pending", "running")
}
"""Statuses as SQL says them: with a parameter no index of one status would be used."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: those for which all holds that is given. `status` is that of the newest job.

    kind: what was announced, a batch or a kind of run. batch_id: the events of this batch and of
    its runs. since and until: when the event came first.
    """

    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None
    kind: str | None = None
    batch_id: str | None = None
    ids: Sequence[int] = ()


class Matching(NamedTuple):
    """Numbers of events that match a filter.

    replayable: those whose job is over. waiting: those whose job is pending or running. unusable:
    those that name nothing that could be fetched.
    """

    replayable: int
    waiting: int
    unusable: int


class MatchingEvent(TypedDict):
    """An event with its newest job."""

    id: int
    received_at: datetime
    source: str
    key: str
    subject_kind: str
    subject: str | None
    status: str
    reason: str | None


class ReplayStore:
    """The events of a database that can be replayed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, wanted: EventFilter) -> Matching:
        """Return how many events match."""
        is_over = col(Job.status).in_(_OVER)
        query = _matching(
            wanted,
            func.count().filter(_is_replayable()),
            func.count().filter(~is_over),
            func.count().filter(is_over & col(Job.subject).is_(None)),
        )
        with self._database.read() as connection:
            return Matching(*connection.execute(query).one())

    def newest(self, wanted: EventFilter, *, limit: int) -> list[MatchingEvent]:
        """Return the newest events that match and can be replayed, newest first."""
        columns = (
            *(col(getattr(Event, name)) for name in ("id", "received_at", "source", "key")),
            *(col(getattr(Job, name)) for name in ("subject_kind", "subject", "status", "reason")),
        )
        query = _matching(wanted, *columns).where(_is_replayable())
        query = query.order_by(col(Event.id).desc()).limit(limit)
        with self._database.read() as connection:
            return as_dicts(connection.execute(query))

    def replay(self, wanted: EventFilter) -> Iterator[int]:
        """Replay the events that match now, oldest first; yields the number after each chunk.

        An event that changes meanwhile, so that its job is no longer over, is left out.
        """
        with self._database.read() as connection:
            last = connection.execute(select(func.max(col(Event.id)))).scalar() or 0
        after = 0
        while True:
            query = _matching(wanted, col(Event.id)).where(
                col(Event.id) > after, col(Event.id) <= last, _is_replayable()
            )
            with self._database.read() as connection:
                found = list(connection.scalars(query.order_by(col(Event.id)).limit(CHUNK)))
            if not found:
                return
            after = found[-1]
            yield self._replay(found)

    def _replay(self, event_ids: Sequence[int]) -> int:
        def work(connection: Connection) -> int:
            locked = select(col(Event.id)).where(col(Event.id).in_(event_ids))
            connection.execute(locked.order_by(col(Event.id)).with_for_update())
            found = _matching(EventFilter(ids=event_ids), col(Job.id)).where(_is_replayable())
            job_ids = list(connection.scalars(found))
            return jobs.replay_all(connection, job_ids, now=self._database.now())

        return self._database.write(work)


def _matching(wanted: EventFilter, *columns: Any) -> Select[Any]:
    """Select from the matching events, each with its newest job."""
    newer = select(func.max(col(Job.id))).where(col(Job.event_id) == col(Event.id))
    return (
        select(*columns)
        .select_from(Event)
        .join(Job, col(Job.event_id) == col(Event.id))
        .where(col(Job.id) == newer.correlate(Event).scalar_subquery(), *_conditions(wanted))
    )


def _conditions(wanted: EventFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.ids:
        yield col(Event.id).in_(wanted.ids)
    if wanted.source is not None:
        yield col(Event.source) == wanted.source
    if wanted.since is not None:
        yield col(Event.received_at) >= wanted.since
    if wanted.until is not None:
        yield col(Event.received_at) < wanted.until
    if wanted.status is not None:
        yield col(Job.status) == _WORDS[wanted.status]
    if wanted.kind is not None:
        yield col(Job.subject_kind) == wanted.kind
    if wanted.batch_id is not None:
        yield _is_of_batch(wanted.batch_id)


def _is_of_batch(batch_id: str) -> ColumnElement[bool]:
    run = exists().where(
        col(Run.source) == col(Job.source),
        col(Run.run_id) == col(Job.subject),
        col(Run.batch_id) == batch_id,
    )
    is_batch = (col(Job.subject_kind) == "batch") & (col(Job.subject) == batch_id)
    return or_(is_batch, (col(Job.subject_kind) != "batch") & run)


def _is_replayable() -> ColumnElement[bool]:
    """Select jobs that are over and have something to fetch: an unusable delivery has nothing."""
    return col(Job.status).in_(_OVER) & col(Job.subject).is_not(None)
