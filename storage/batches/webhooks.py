"""Webhooks of a batch: whether any has arrived, and how many were refused."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select
from sqlmodel import col

from storage.batches.ledger import Ledger
from storage.models import Batch, Endpoint, Job, Quarantined, Result, Run


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Webhooks of a batch. `newest_refused` is the id of the newest refused one, for its reason.

    Those refused at the account's own URL, where a batch has no endpoint, may be of other batches.
    """

    has_arrived: bool
    refused: int
    newest_refused: int | None
    reason: str | None


def of_batch(connection: Connection, batch: Ledger) -> Webhooks:
    """Return what is known of the webhooks of a batch, as cheaply as that can be told.

    An arrived one is noticed by the job that it made while that is not done, and afterwards by
    what the job left.
    """
    refused = connection.execute(
        select(func.count(), func.max(col(Quarantined.id))).where(_is_refused(batch))
    ).one()
    reason = connection.execute(
        select(col(Quarantined.reason)).where(col(Quarantined.id) == refused[1])
    ).scalar()
    return Webhooks(_has_arrived(connection, batch), refused[0], refused[1], reason)


def _has_arrived(connection: Connection, batch: Ledger) -> bool:
    announced = select(col(Batch.announced_at)).where(
        col(Batch.source) == batch.source, col(Batch.batch_id) == batch.batch_id
    )
    if connection.execute(announced).scalar() is not None:
        return True
    brought = exists().where(
        col(Run.source) == batch.source,
        col(Run.batch_id) == batch.batch_id,
        col(Result.run_pk) == col(Run.id),
        col(Result.found_by) == "webhook",
    )
    waiting = exists().where(
        col(Job.source) == batch.source,
        col(Job.status).in_(("pending", "running")),
        col(Job.event_id).is_not(None),
        or_(col(Job.subject) == batch.batch_id, _is_run(batch, col(Job.subject))),
    )
    return bool(connection.execute(select(brought | waiting)).scalar())


def _is_refused(batch: Ledger) -> ColumnElement[bool]:
    """Select the refused requests at the endpoints of a batch and of its runs, or its account."""
    of_runs = select(col(Endpoint.id)).where(
        col(Endpoint.source) == batch.source, _is_run(batch, col(Endpoint.resource))
    )
    at_run = col(Quarantined.endpoint_id).in_(of_runs)
    at_own = col(Quarantined.endpoint_id).is_not_distinct_from(batch.endpoint_id)
    is_since = col(Quarantined.received_at) >= batch.created_at
    return and_(col(Quarantined.source) == batch.source, is_since, at_run | at_own)


def _is_run(batch: Ledger, name: Any) -> ColumnElement[bool]:
    return exists().where(
        col(Run.source) == batch.source,
        col(Run.run_id) == name,
        col(Run.batch_id) == batch.batch_id,
    )
