"""Letting go of what is old, little by little; nothing that is alive, and nothing that counts.

    kind        what goes                                once older than its age, and
    ----------  ---------------------------------------  -----------------------------------------
    attempts    the row                                  its job has ended
    deliveries  body and headers; the row stays          no job of its event is alive
    jobs        the row                                  it has ended; its attempts are gone
    events      the row, and the rows of its deliveries  nobody delivers it any more; its jobs and
                                                         its bodies are gone
    versions    the row of a superseded result           what superseded it is that old
    results     output, sources, error, raw; the row     its batch is not open
                stays, so that every ledger still adds
                up and nothing is fetched again

Alive is a job that waits, runs, or is a dead letter: that needs its event, and what was delivered,
to be replayed. What is emptied keeps its digest, so that the same again is still known as the same.

Rows are walked by their key from the oldest on, for keys grow with time: no index is needed, and
what is too young ends the walk. A step looks first, outside of the transaction that then takes a
few hundred rows at most, and asks there once more whether they may go.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    cast,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased
from sqlmodel import col

from storage.models import EMPTIED, Attempt, Batch, Delivery, Event, Job, Result, Run

LOOK_ROWS: Final = 500
"""Rows looked at in one read."""

STEP_ROWS: Final = 250
STEP_BYTES: Final = 8 * 1024 * 1024
"""A transaction takes no more rows, nor many more bytes than this: acks must get between."""

_ALIVE = ("pending", "running", "dead")
_ENDED = ("done", "abandoned")


@dataclass(frozen=True, slots=True)
class Ages:
    """How long each is kept; None: for ever. Raises ValueError where an age cannot be.

    `events` is the age of ended jobs too, and of the rows of deliveries without their bodies.
    """

    deliveries: timedelta | None = None
    attempts: timedelta | None = None
    events: timedelta | None = None
    results: timedelta | None = None
    versions: timedelta | None = None

    def __post_init__(self) -> None:
        for name in ("deliveries", "attempts"):
            age = getattr(self, name)
            if self.events is not None and (age is None or age > self.events):
                raise ValueError(f"events cannot go before what hangs on them: {name}")

    def before(self, now: datetime) -> "Cutoffs":
        """The moments before which things are old enough."""
        ages = (self.deliveries, self.attempts, self.events, self.results, self.versions)
        return Cutoffs(*(None if age is None else now - age for age in ages))


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What is older than these may go; None: nothing may."""

    deliveries: datetime | None
    attempts: datetime | None
    events: datetime | None
    results: datetime | None
    versions: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """What one step let go, or would, and the key to go on behind.

    `bytes` are those of the bodies and texts in the rows. `is_end` says that no row behind
    `reached` is old enough.
    """

    rows: int
    bytes: int
    reached: int
    is_end: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The rows that may go, each with its bytes, and the key to go on behind."""

    sizes: Mapping[int, int]
    reached: int
    is_end: bool


def look(
    connection: Connection, kind: str, ages: Ages, *, after: int, now: datetime, keep: bool = False
) -> Found:
    """Look at the next rows behind `after`. `keep`: as if what hangs on them was gone already."""
    table, before = _KINDS[kind], ages.before(now)
    if _cutoff(table, before) is None:
        return Found({}, after, is_end=True)
    key = col(table.model.id)
    ids = connection.scalars(
        select(key).where(key > after, *table.among).order_by(key).limit(LOOK_ROWS)
    ).all()
    ages_of = _stamps(connection, table, {*ids[:1], *ids[-1:]})
    if not any(_is_old(stamp, table, before) for stamp in ages_of):
        return Found({}, after, is_end=True)
    conditions = table.due(before) if keep else [*table.due(before), *table.is_free]
    due = connection.execute(
        select(key, table.size)
        .where(key.between(ids[0], ids[-1]), *table.among, *conditions)
        .order_by(key)
        .limit(STEP_ROWS)
    ).all()
    taken = _no_more_than(STEP_BYTES, [(row[0], int(row[1])) for row in due])
    if len(taken) < len(due) or len(due) == STEP_ROWS:
        return Found(dict(taken), taken[-1][0], is_end=False)
    if not _is_old(ages_of[-1], table, before):  # the rest of these ages first
        return Found(dict(taken), taken[-1][0] if taken else after, is_end=True)
    return Found(dict(taken), ids[-1], is_end=False)


def let_go(
    connection: Connection, kind: str, ages: Ages, ids: Sequence[int], *, now: datetime
) -> list[int]:
    """Let go of those of these rows that still may; returns which.

    What others hold at this moment, another pruner or the intake, is left for another time.
    """
    table = _KINDS[kind]
    key = col(table.model.id)
    held = table.hold(connection, ids)
    sure = connection.scalars(
        select(key).where(key.in_(held), *table.due(ages.before(now)), *table.is_free).order_by(key)
    ).all()
    if sure:
        table.go(connection, sure, now)
    return list(sure)


def span(connection: Connection, kind: str) -> tuple[int, int]:
    """The first and the last key there are of a kind; (0, 0) where there is none."""
    key = col(_KINDS[kind].model.id)
    first, last = connection.execute(select(func.min(key), func.max(key))).one()
    return first or 0, last or 0


# --- inside -------------------------------------------------------------------------------------

Ids = Sequence[int]
Conditions = Sequence[ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of row. `stamp` grows with the key, and tells where the walk may end.

    due: what must hold of a row by its age and its kin; is_free: and nothing hangs on it. hold:
    lock what decides, and return the ids that are ours. among: which rows are looked at at all.
    """

    model: Any
    age: str
    stamp: Any
    size: ColumnElement[Any]
    due: Callable[[Cutoffs], Conditions]
    hold: Callable[[Connection, Ids], Ids]
    go: Callable[[Connection, Ids, datetime], None]
    is_free: Conditions = ()
    among: Conditions = ()


def _cutoff(table: _Kind, before: Cutoffs) -> datetime | None:
    cutoff: datetime | None = getattr(before, table.age)
    return cutoff


def _is_old(stamp: datetime, table: _Kind, before: Cutoffs) -> bool:
    cutoff = _cutoff(table, before)
    return cutoff is not None and stamp < cutoff


def _stamps(connection: Connection, table: _Kind, ids: Collection[int]) -> Sequence[datetime]:
    key = col(table.model.id)
    return connection.scalars(select(table.stamp).where(key.in_(ids)).order_by(key)).all()


def _no_more_than(limit: int, rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many of the rows as have these bytes together, but one at least."""
    total = 0
    for place, (_, size) in enumerate(rows):
        total += size
        if total > limit:
            return rows[: max(place, 1)]
    return rows


def _length(*columns: Any) -> ColumnElement[Any]:
    """The characters of texts and documents, the bytes of bodies."""
    lengths = [func.coalesce(func.length(column), 0) for column in columns]
    total: ColumnElement[Any] = lengths[0]
    for length in lengths[1:]:
        total = total + length
    return total


def _ended_at() -> ColumnElement[Any]:
    return func.coalesce(col(Job.ended_at), col(Job.created_at))


def _locked(query: Select[Any]) -> Select[Any]:
    """Postgres: what somebody else holds is skipped, so that nobody waits for anybody."""
    return query.with_for_update(skip_locked=True)


def _hold(model: Any) -> Callable[[Connection, Ids], Ids]:
    key = col(model.id)

    def hold(connection: Connection, ids: Ids) -> Ids:
        held: Ids = connection.scalars(_locked(select(key).where(key.in_(ids)).order_by(key))).all()
        return held

    return hold


def _hold_event_of(connection: Connection, ids: Ids) -> Ids:
    """A job that comes to an event meanwhile waits for us, or we leave the event alone."""
    delivery, event_id = col(Delivery.id), col(Delivery.event_id)
    events = connection.scalars(
        select(event_id).where(delivery.in_(ids)).distinct().order_by(event_id)
    ).all()
    held = _hold(Event)(connection, events)
    return connection.scalars(select(delivery).where(delivery.in_(ids), event_id.in_(held))).all()  # type: ignore[return-value]


def _delete(model: Any) -> Callable[[Connection, Ids, datetime], None]:
    key = col(model.id)

    def go(connection: Connection, ids: Ids, _now: datetime) -> None:
        connection.execute(delete(model).where(key.in_(ids)))

    return go


# --- attempts ---


def _due_attempts(before: Cutoffs) -> Conditions:
    job = select(col(Job.id)).where(col(Job.id) == col(Attempt.job_id), col(Job.status).in_(_ENDED))
    return col(Attempt.started_at) < before.attempts, job.exists()


# --- deliveries ---


def _due_deliveries(before: Cutoffs) -> Conditions:
    alive = select(col(Job.id)).where(
        col(Job.event_id) == col(Delivery.event_id), col(Job.status).in_(_ALIVE)
    )
    return (
        col(Delivery.pruned_at).is_(None),
        col(Delivery.received_at) < before.deliveries,
        ~alive.exists(),
    )


def _empty_deliveries(connection: Connection, ids: Ids, now: datetime) -> None:
    connection.execute(
        update(Delivery)
        .where(col(Delivery.id).in_(ids))
        .values(body=b"", headers="", pruned_at=now)
    )


# --- jobs ---


def _stays(before: Cutoffs) -> ColumnElement[bool]:
    """Whether a job is alive, or younger than may go."""
    young = select(col(Attempt.id)).where(
        col(Attempt.job_id) == col(Job.id), col(Attempt.started_at) >= before.attempts
    )
    return or_(
        col(Job.status).in_(_ALIVE), _ended_at() >= before.events, young.correlate(Job).exists()
    )


def _due_jobs(before: Cutoffs) -> Conditions:
    return (~_stays(before),)


def _event_or_own_stamp() -> ColumnElement[Any]:
    """A replay makes a job young again, which must not end the walk: its event stays as old."""
    came = select(col(Event.received_at)).where(col(Event.id) == col(Job.event_id))
    return func.coalesce(came.scalar_subquery(), col(Job.created_at))


# --- events ---


def _due_events(before: Cutoffs) -> Conditions:
    job = select(col(Job.id)).where(col(Job.event_id) == col(Event.id), _stays(before))
    delivery = select(col(Delivery.id)).where(
        col(Delivery.event_id) == col(Event.id),
        or_(
            col(Delivery.received_at) >= before.events, col(Delivery.last_copy_at) >= before.events
        ),
    )
    return col(Event.received_at) < before.events, ~job.exists(), ~delivery.exists()


def _delete_events(connection: Connection, ids: Ids, _now: datetime) -> None:
    connection.execute(delete(Delivery).where(col(Delivery.event_id).in_(ids)))
    connection.execute(delete(Event).where(col(Event.id).in_(ids)))


def _childless_events() -> Conditions:
    job = select(col(Job.id)).where(col(Job.event_id) == col(Event.id))
    body = select(col(Delivery.id)).where(
        col(Delivery.event_id) == col(Event.id), col(Delivery.pruned_at).is_(None)
    )
    return ~job.exists(), ~body.exists()


# --- results ---


def _due_versions(before: Cutoffs) -> Conditions:
    """By what came after it: an export that began before that still needs it."""
    later = aliased(Result)
    newer = select(col(later.id)).where(
        col(later.run_pk) == col(Result.run_pk),
        col(later.version) > col(Result.version),
        col(later.stored_at) < before.versions,
    )
    return ~col(Result.is_current), newer.exists()


def _due_results(before: Cutoffs) -> Conditions:
    open_batch = (
        select(col(Run.id))
        .join(
            Batch,
            (col(Batch.source) == col(Run.source)) & (col(Batch.batch_id) == col(Run.batch_id)),
        )
        .where(col(Run.id) == col(Result.run_pk), col(Batch.state) == "open")
    )
    return (
        col(Result.pruned_at).is_(None),
        col(Result.stored_at) < before.results,
        ~open_batch.exists(),
    )


def _empty_results(connection: Connection, ids: Ids, now: datetime) -> None:
    connection.execute(
        update(Result)
        .where(col(Result.id).in_(ids))
        .values(output=null(), sources=null(), error=None, raw=EMPTIED, pruned_at=now)
    )


_CONTENT = _length(
    col(Result.raw),
    cast(col(Result.output), Text),
    cast(col(Result.sources), Text),
    col(Result.error),
)

_KINDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "attempts": _Kind(
            model=Attempt,
            age="attempts",
            stamp=col(Attempt.started_at),
            size=_length(col(Attempt.outcome), col(Attempt.detail)),
            due=_due_attempts,
            hold=_hold(Attempt),
            go=_delete(Attempt),
        ),
        "deliveries": _Kind(
            model=Delivery,
            age="deliveries",
            stamp=col(Delivery.received_at),
            size=_length(col(Delivery.body), col(Delivery.headers)),
            due=_due_deliveries,
            hold=_hold_event_of,
            go=_empty_deliveries,
        ),
        "jobs": _Kind(
            model=Job,
            age="events",
            stamp=_event_or_own_stamp(),
            size=_length(cast(col(Job.progress), Text), col(Job.reason), col(Job.subject)),
            due=_due_jobs,
            hold=_hold(Job),
            go=_delete(Job),
            is_free=(~select(col(Attempt.id)).where(col(Attempt.job_id) == col(Job.id)).exists(),),
        ),
        "events": _Kind(
            model=Event,
            age="events",
            stamp=col(Event.received_at),
            size=_length(col(Event.key), col(Event.source), col(Event.key_digest)),
            due=_due_events,
            hold=_hold(Event),
            go=_delete_events,
            is_free=_childless_events(),
        ),
        "versions": _Kind(
            model=Result,
            age="versions",
            stamp=col(Result.stored_at),
            size=_CONTENT,
            due=_due_versions,
            hold=_hold(Result),
            go=_delete(Result),
            among=(literal_column("NOT results.is_current"),),  # in the words of its index
        ),
        "results": _Kind(
            model=Result,
            age="results",
            stamp=col(Result.stored_at),
            size=_CONTENT,
            due=_due_results,
            hold=_hold(Result),
            go=_empty_results,
        ),
    }
)

KINDS: Final = tuple(_KINDS)
"""All kinds, each behind those that hang on it."""

AGE_OF: Final[Mapping[str, str]] = MappingProxyType({kind: _KINDS[kind].age for kind in _KINDS})
"""Which of the ages is that of a kind."""
