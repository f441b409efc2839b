"""Ledgers of batches: what is expected, announced, stored and failed, by ids and counts."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Connection, Row, func, select
from sqlmodel import col

from storage.database import as_dicts
from storage.errors import NotFound
from storage.fetched import TERMINAL
from storage.models import Batch, Result, Run


@dataclass(frozen=True, slots=True)
class Ledger:
    """A batch with counts of its runs. `state` is open or complete, `sender_status` the sender's.

    expected: runs that the sender counts or that we know, whichever is more, and the tasks of an
    unfinished submission that are still to be added.
    announced: runs of which the sender has said that they ended.
    stored: runs whose result is stored.
    failed: those of the stored ones that failed or were cancelled.
    pruned: those of the stored ones whose content was pruned at its age.
    """

    source: str
    batch_id: str
    task_id: str | None
    name: str | None
    runner: str | None
    endpoint_id: str | None
    state: str
    sender_status: str | None
    expected: int
    announced: int
    stored: int
    failed: int
    created_at: datetime
    completed_at: datetime | None
    pruned: int = 0

    def as_dict(self) -> dict[str, object]:
        """Return all fields by name, as they are shown."""
        return asdict(self)


def ledger(connection: Connection, source: str, batch_id: str) -> Ledger:
    """Return the ledger of one batch; raises NotFound."""
    row = connection.execute(
        select(Batch).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no batch {batch_id} of source {source}: see `batch list`.")
    return _ledger(connection, row)


def find(connection: Connection, batch_id: str, *, source: str | None = None) -> Ledger:
    """Return the ledger of the batch with this id, of any source where none is named.

    Raises NotFound, also where several sources have such a batch.
    """
    query = select(Batch).where(col(Batch.batch_id) == batch_id)
    if source is not None:
        query = query.where(col(Batch.source) == source)
    rows = connection.execute(query).all()
    if not rows:
        raise NotFound(f"There is no batch {batch_id}: see `batch list`.")
    if len(rows) > 1:
        sources = ", ".join(sorted(row.source for row in rows))
        raise NotFound(f"Several sources have a batch {batch_id}: add --source ({sources}).")
    return _ledger(connection, rows[0])


def list_page(
    connection: Connection, *, source: str | None, limit: int, before: int | None
) -> tuple[list[Ledger], int | None]:
    """Return the newest batches `before` a row, newest first, and the row for the next page."""
    query = select(Batch).order_by(col(Batch.id).desc()).limit(limit)
    if source is not None:
        query = query.where(col(Batch.source) == source)
    if before is not None:
        query = query.where(col(Batch.id) < before)
    rows = connection.execute(query).all()
    return [_ledger(connection, row) for row in rows], rows[-1].id if rows else None


class UnstoredRun(TypedDict):
    """A run of a batch without a result; `sender_status` is the last that the sender gave."""

    run_id: str
    task_id: str | None
    status: str
    sender_status: str | None


def unstored(
    connection: Connection, source: str, batch_id: str, *, limit: int = 1000
) -> list[UnstoredRun]:
    """Return the runs of a batch that have no result yet."""
    rows = connection.execute(
        select(col(Run.run_id), col(Run.task_id), col(Run.status), col(Run.sender_status))
        .where(
            col(Run.source) == source,
            col(Run.batch_id) == batch_id,
            ~select(col(Result.id))
            .where(col(Result.run_pk) == col(Run.id), col(Result.is_current), _is_of_last_end())
            .exists(),
        )
        .order_by(col(Run.id))
        .limit(limit)
    )
    return as_dicts(rows)


def _is_of_last_end() -> ColumnElement[bool]:
    """Select results of their runs' last end: a run that ended again has another result to come."""
    return col(Run.status).not_in(TERMINAL) | (col(Run.status) == col(Result.status))


def _ledger(connection: Connection, row: Row[Any]) -> Ledger:
    known, stored, failed, pruned = connection.execute(
        select(
            func.count(col(Run.id)),
            func.count(col(Result.id)).filter(_is_of_last_end()),
            func.count().filter(col(Result.status).in_(TERMINAL - {"completed"})),
            func.count(col(Result.pruned_at)),
        )
        .select_from(Run)
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.source) == row.source, col(Run.batch_id) == row.batch_id)
    ).one()
    counts = row.counts or {}
    return Ledger(
        source=row.source,
        batch_id=row.batch_id,
        task_id=row.task_id,
        name=row.name,
        runner=row.runner,
        endpoint_id=row.endpoint_id,
        state=row.state,
        sender_status=row.sender_status,
        expected=max(known, row.submitted, counts.get("total") or 0) + row.pending,
        announced=max(stored, counts.get("ended") or 0),
        stored=stored,
        failed=failed,
        created_at=row.created_at,
        completed_at=row.completed_at,
        pruned=pruned,
    )
