"""Ledgers of batches: what is expected, announced, stored, failed and missing, by ids and counts.

`docs/batches.md` says what each number means; here they are counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import ColumnElement, Connection, Executable, Row, func, select, tuple_
from sqlmodel import col

from storage.database import as_dicts, statement
from storage.errors import NotFound
from storage.fetched import TERMINAL
from storage.models import Batch, Result, Run, SubmissionRow


@dataclass(frozen=True, slots=True)
class Ledger:
    """A batch with counts of its runs. `state` is open or complete, `sender_status` the sender's.

    expected: runs that the sender counts or that we know, whichever is more; at least those before
    an unfinished submission and all of its tasks.
    unsent: those of its tasks that are not among the runs that the sender counts or that we know.
    announced: those of which the sender has said that they ended.
    stored: those whose result is stored: of their last end, where they ended more than once.
    failed: those of the stored ones that failed or were cancelled.
    pruned: those of the stored ones whose content was pruned at its age.
    known: those that are named, so that each has a row.
    missing: those whose result is not stored.

    failed <= stored <= announced <= expected = stored + missing, and stored <= known <= expected;
    complete means that none is missing, that the sender's counts agree, and that no submission is
    unfinished: what the sender counts may be runs of others.
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
    known: int = 0
    unsent: int = 0

    @property
    def missing(self) -> int:
        """The number of runs whose result is not stored."""
        return self.expected - self.stored

    def as_dict(self) -> dict[str, object]:
        """Return all fields by name, as they are shown."""
        return {**asdict(self), "missing": self.missing}


def ledger(connection: Connection, source: str, batch_id: str) -> Ledger:
    """Return the ledger of one batch; raises NotFound."""
    row = connection.execute(
        select(Batch).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no batch {batch_id} of source {source}: see `batch list`.")
    return of_rows(connection, [row])[0]


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
    return of_rows(connection, rows)[0]


def list_page(
    connection: Connection, *, sources: Sequence[str] | None, limit: int, before: int | None
) -> tuple[list[Ledger], int | None]:
    """Return the newest batches `before` a row, newest first, and the row for the next page."""
    query = select(Batch).order_by(col(Batch.id).desc()).limit(limit)
    if sources is not None:
        query = query.where(col(Batch.source).in_(sources))
    if before is not None:
        query = query.where(col(Batch.id) < before)
    rows = connection.execute(query).all()
    return of_rows(connection, rows), rows[-1].id if rows else None


def of_rows(connection: Connection, rows: Sequence[Row[Any]]) -> list[Ledger]:
    """Return the ledgers of these rows; their runs are counted by one query a source.

    This alone says which batches are open: their column lags behind where rows were changed by
    hand, or runs were added.
    """
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row.source, []).append(row.batch_id)
    counted = {
        (source, batch_id): counts
        for source, batch_ids in named.items()
        for batch_id, counts in _count(connection, source, batch_ids)
    }
    submitted = _submitted(connection, [(row.source, row.batch_id) for row in rows if row.pending])
    return [
        _ledger(row, counted.get(name, _Counts()), submitted=submitted.get(name, 0) + row.pending)
        for row in rows
        if (name := (row.source, row.batch_id))
    ]


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
            .where(col(Result.run_pk) == col(Run.id), col(Result.is_current), is_stored())
            .exists(),
        )
        .order_by(col(Run.id))
        .limit(limit)
    )
    return as_dicts(rows)


def is_stored() -> ColumnElement[bool]:
    """Select runs joined with the result of their last end; one that ended again has none yet."""
    is_of_last_end = col(Run.status).not_in(TERMINAL) | (col(Run.status) == col(Result.status))
    return col(Result.id).is_not(None) & is_of_last_end


@dataclass(frozen=True, slots=True)
class _Counts:
    """The runs of a batch that have a row, counted."""

    known: int = 0
    ended: int = 0
    stored: int = 0
    failed: int = 0
    pruned: int = 0


def _submitted(
    connection: Connection, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """Return how many runs are in the batches of these unfinished submissions, as far as noted."""
    if not names:
        return {}
    name = col(SubmissionRow.source), col(SubmissionRow.batch_id)
    so_far = func.max(col(SubmissionRow.before) + col(SubmissionRow.accepted))
    rows = connection.execute(
        select(*name, so_far).where(tuple_(*name).in_(names)).group_by(*name)
    ).all()
    return {(source, str(batch_id)): count for source, batch_id, count in rows}


def _count(
    connection: Connection, source: str, batch_ids: Sequence[str]
) -> Iterator[tuple[str, _Counts]]:
    for row in _counting(connection, source=source, batch_ids=batch_ids):
        yield row[0], _Counts(*row[1:])


@statement
def _counting(source: Any, batch_ids: Any) -> Executable:
    stored = is_stored()
    return (
        select(
            col(Run.batch_id),
            func.count(),
            func.count().filter(col(Run.status).in_(TERMINAL)),
            func.count().filter(stored),
            func.count().filter(stored, col(Result.status) != "completed"),
            func.count().filter(stored, col(Result.pruned_at).is_not(None)),
        )
        .select_from(Run)
        .outerjoin(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.source) == source, col(Run.batch_id).in_(batch_ids))
        .group_by(col(Run.batch_id))
    )


def _ledger(row: Row[Any], counts: _Counts, *, submitted: int) -> Ledger:
    """Return the ledger of a batch: whatever the sender says, its numbers fit together.

    `submitted` are the runs that it has once no submission is unfinished.
    """
    by_sender = row.counts or {}
    total, ended = (by_sender.get(name) or 0 for name in ("total", "ended"))
    announced = max(counts.ended, counts.stored, ended)
    there = max(counts.known, row.submitted, total, announced)
    expected = max(there, submitted)
    is_complete = row.state == "complete" and counts.stored == expected and not row.pending
    return Ledger(
        source=row.source,
        batch_id=row.batch_id,
        task_id=row.task_id,
        name=row.name,
        runner=row.runner,
        endpoint_id=row.endpoint_id,
        state="complete" if is_complete else "open",
        sender_status=row.sender_status,
        expected=expected,
        announced=announced,
        stored=counts.stored,
        failed=counts.failed,
        created_at=row.created_at,
        completed_at=row.completed_at if is_complete else None,
        pruned=counts.pruned,
        known=counts.known,
        unsent=expected - there,
    )
