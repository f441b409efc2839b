"""Kinds of rows that are pruned: when each may go, which locks it takes, how it goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
from storage.retention.ages import Cutoffs

Ids = Sequence[int]
Conditions = Sequence[ColumnElement[bool]]

_ALIVE = ("pending", "running", "dead")
_ENDED = ("done", "abandoned")


@dataclass(frozen=True, slots=True)
class RetentionKind:
    """One kind of row. `stamp` grows with the key, so that the walk ends at a young row.

    due: conditions on a row's age and on related rows.
    is_free: conditions that no other row depends on it.
    hold: locks the rows that decide, and returns the ids that may be pruned.
    go: prunes rows.
    among: conditions of all rows of the kind.
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


def _length(*columns: Any) -> ColumnElement[Any]:
    """Sum the characters of texts and documents, and the bytes of bodies, in SQL."""
    lengths = [func.coalesce(func.length(column), 0) for column in columns]
    total: ColumnElement[Any] = lengths[0]
    for length in lengths[1:]:
        total = total + length
    return total


def _ended_at() -> ColumnElement[Any]:
    return func.coalesce(col(Job.ended_at), col(Job.created_at))


def _locked(query: Select[Any]) -> Select[Any]:
    """Lock the rows, on Postgres; rows that another transaction has locked are skipped."""
    return query.with_for_update(skip_locked=True)


def _hold(model: Any) -> Callable[[Connection, Ids], Ids]:
    key = col(model.id)

    def hold(connection: Connection, ids: Ids) -> Ids:
        held: Ids = connection.scalars(_locked(select(key).where(key.in_(ids)).order_by(key))).all()
        return held

    return hold


def _hold_event_of(connection: Connection, ids: Ids) -> Ids:
    """Lock the events of deliveries, so that no new job of one comes between."""
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
    """Select jobs that are alive, or too young to go."""
    young = select(col(Attempt.id)).where(
        col(Attempt.job_id) == col(Job.id), col(Attempt.started_at) >= before.attempts
    )
    return or_(
        col(Job.status).in_(_ALIVE), _ended_at() >= before.events, young.correlate(Job).exists()
    )


def _due_jobs(before: Cutoffs) -> Conditions:
    return (~_stays(before),)


def _event_or_own_stamp() -> ColumnElement[Any]:
    """Return a job's time by its event: a replay makes the job itself young."""
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
    """Select superseded results by the age of their successor, which older exports leave out."""
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

KINDS: Final[Mapping[str, RetentionKind]] = MappingProxyType(
    {
        "attempts": RetentionKind(
            model=Attempt,
            age="attempts",
            stamp=col(Attempt.started_at),
            size=_length(col(Attempt.outcome), col(Attempt.detail)),
            due=_due_attempts,
            hold=_hold(Attempt),
            go=_delete(Attempt),
        ),
        "deliveries": RetentionKind(
            model=Delivery,
            age="deliveries",
            stamp=col(Delivery.received_at),
            size=_length(col(Delivery.body), col(Delivery.headers)),
            due=_due_deliveries,
            hold=_hold_event_of,
            go=_empty_deliveries,
        ),
        "jobs": RetentionKind(
            model=Job,
            age="events",
            stamp=_event_or_own_stamp(),
            size=_length(cast(col(Job.progress), Text), col(Job.reason), col(Job.subject)),
            due=_due_jobs,
            hold=_hold(Job),
            go=_delete(Job),
            is_free=(~select(col(Attempt.id)).where(col(Attempt.job_id) == col(Job.id)).exists(),),
        ),
        "events": RetentionKind(
            model=Event,
            age="events",
            stamp=col(Event.received_at),
            size=_length(col(Event.key), col(Event.source), col(Event.key_digest)),
            due=_due_events,
            hold=_hold(Event),
            go=_delete_events,
            is_free=_childless_events(),
        ),
        "versions": RetentionKind(
            model=Result,
            age="versions",
            stamp=col(Result.stored_at),
            size=_CONTENT,
            due=_due_versions,
            hold=_hold(Result),
            go=_delete(Result),
            among=(literal_column("NOT results.is_current"),),  # written as its index has it
        ),
        "results": RetentionKind(
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
"""All kinds, each after those that depend on it."""
