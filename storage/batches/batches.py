"""Batches: registered, grown by runs, and complete by their ledger."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    bindparam,
    case,
    func,
    select,
    update,
)
from sqlmodel import col

from storage.batches.ledger import Ledger, ledger
from storage.database import insert, is_alone, statement
from storage.fetched import FetchedBatch, SubmittedRun
from storage.json_text import clean
from storage.models import Batch, Run


def register(
    connection: Connection,
    *,
    source: str,
    batch_id: str,
    endpoint_id: str | None,
    name: str | None = None,
    runner: str | None = None,
    task_id: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """Add a batch; a repeated call fills in what was missing."""
    values = {
        "endpoint_id": endpoint_id,
        "name": clean(name),
        "runner": runner,
        "task_id": task_id,
        "defaults": None if defaults is None else clean(dict(defaults)),
    }
    connection.execute(
        insert(Batch)
        .values(source=source, batch_id=batch_id, state="open", submitted=0, created_at=now)
        .on_conflict_do_nothing()
    )
    missing = {
        name: func.coalesce(getattr(Batch, name), bindparam(None, value, getattr(Batch, name).type))
        for name, value in values.items()
        if value is not None
    }
    if missing:
        connection.execute(_this(source, batch_id).values(**missing))


def add_runs(
    connection: Connection,
    source: str,
    batch_id: str,
    runs: Sequence[SubmittedRun],
    *,
    submitted: int = 0,
) -> None:
    """Expect the runs that the sender accepted, with their inputs, and `submitted` ones at least.

    The batch is open again unless the results of all of them are stored: a webhook and its fetch
    may be faster than the sender's answer to the call that added the runs. A repeated call changes
    nothing.
    """
    lock(connection, source, batch_id)
    before = _known(connection, source, batch_id)
    _expect(connection, source, batch_id, runs)
    known = _known(connection, source, batch_id)
    least, counted = max(known, submitted), col(Batch.submitted) + (known - before)
    connection.execute(
        _this(source, batch_id).values(submitted=case((counted > least, counted), else_=least))
    )
    if ledger(connection, source, batch_id).missing:
        connection.execute(_this(source, batch_id).values(state="open", completed_at=None))


def _expect(
    connection: Connection, source: str, batch_id: str, runs: Sequence[SubmittedRun]
) -> None:
    if not runs:
        return
    statement = insert(Run)
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source", "run_id"],
            set_={
                "batch_id": func.coalesce(col(Run.batch_id), given.batch_id),
                "input": func.coalesce(given.input, col(Run.input)),
                "task_id": func.coalesce(given.task_id, col(Run.task_id)),
            },
        ),
        [
            {
                "source": source,
                "run_id": run.run_id,
                "batch_id": batch_id,
                "task_id": clean(run.task_id),
                "status": "queued",
                "input": clean(run.input),
            }
            for run in runs
        ],
    )


def lock(connection: Connection, source: str, batch_id: str | None) -> None:
    """Lock a batch until the COMMIT: nobody else counts or completes it, or brings it runs.

    A caller that also writes to jobs takes this lock first, so that two callers do not deadlock.
    """
    if batch_id is not None and not is_alone(connection):
        connection.execute(
            select(col(Batch.id))
            .where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
            .with_for_update()
        )


def hold(connection: Connection, source: str, batch_ids: Iterable[str]) -> None:
    """Share a lock on these batches until the COMMIT: nobody counts them, but others add runs too.

    A count must see all runs of a transaction, or none.
    """
    names = sorted(set(batch_ids))
    if names and not is_alone(connection):
        connection.execute(
            select(col(Batch.id))
            .where(col(Batch.source) == source, col(Batch.batch_id).in_(names))
            .order_by(col(Batch.batch_id))
            .with_for_update(read=True, key_share=True)
        )


def save(
    connection: Connection, source: str, batch: FetchedBatch, *, announced: bool, now: datetime
) -> Ledger:
    """Store the answer of a status call; a batch that has grown since its end is open again."""
    register(
        connection,
        source=source,
        batch_id=batch.batch_id,
        endpoint_id=None,
        name=batch.name,
        runner=batch.runner,
        now=now,
    )
    lock(connection, source, batch.batch_id)
    values: dict[str, Any] = {
        "sender_status": batch.sender_status,
        "counts": {**clean(batch.counts), "total": batch.total, "ended": batch.ended},
        "checked_at": now,
    }
    if announced:
        values["announced_at"] = func.coalesce(col(Batch.announced_at), now)
    connection.execute(_this(source, batch.batch_id).values(**values))
    found = ledger(connection, source, batch.batch_id)
    if found.missing:
        connection.execute(_this(source, batch.batch_id).values(state="open", completed_at=None))
    return found


def settle(connection: Connection, source: str, batch: FetchedBatch, *, now: datetime) -> Ledger:
    """Mark the batch complete if it is: by its runs and the sender's counts, not by status alone.

    Complete means: the sender calls it ended, every run that we know or the sender counts has ended
    there, the result of each is stored, and no submission is unfinished. The counts of a later
    status call are among the expected runs. The batch of a sender without counts is never complete.
    """
    lock(connection, source, batch.batch_id)
    found = ledger(connection, source, batch.batch_id)
    known = _known(connection, source, batch.batch_id)
    total = batch.total
    ended = total if batch.ended is None else batch.ended
    agreed = ended == total == known == found.stored == found.expected
    agreed = agreed and not _has_pending(connection, source, batch.batch_id)
    if batch.is_terminal and total is not None and agreed:
        connection.execute(
            _this(source, batch.batch_id)
            .where(col(Batch.state) == "open")
            .values(state="complete", completed_at=now)
        )
    return ledger(connection, source, batch.batch_id)


@dataclass(frozen=True, slots=True)
class Watched:
    """A batch as far as checks need it; reading it counts nothing."""

    source: str
    batch_id: str
    endpoint_id: str | None
    state: str
    created_at: datetime


_WATCHED: tuple[Any, ...] = tuple(col(getattr(Batch, field.name)) for field in fields(Watched))


def watched(connection: Connection, source: str, batch_id: str) -> Watched | None:
    """Return a batch without its counts, or None."""
    row = _watched(connection, source=source, batch_id=batch_id).one_or_none()
    return None if row is None else Watched(**row._mapping)


@statement
def _watched(source: Any, batch_id: Any) -> Executable:
    return select(*_WATCHED).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)


def reopen(connection: Connection, source: str, batch_ids: Iterable[str]) -> list[Watched]:
    """Open the complete ones of these batches that have a run without its result; returns them."""
    names = sorted(set(batch_ids))
    if not names:
        return []
    is_complete = (
        col(Batch.source) == source,
        col(Batch.batch_id).in_(names),
        col(Batch.state) == "complete",
    )
    complete = connection.execute(
        select(col(Batch.batch_id)).where(*is_complete).order_by(col(Batch.batch_id))
    ).scalars()
    reopened = [name for name in complete if ledger(connection, source, name).missing]
    if not reopened:
        return []
    connection.execute(
        update(Batch)
        .where(col(Batch.source) == source, col(Batch.batch_id).in_(reopened))
        .values(state="open", completed_at=None)
    )
    return [found for name in reopened if (found := watched(connection, source, name))]


def defaults(connection: Connection, source: str, batch_id: str) -> dict[str, Any]:
    """Return what each call that adds runs must repeat to the sender; empty where there is none."""
    kept = connection.execute(
        select(col(Batch.defaults)).where(
            col(Batch.source) == source, col(Batch.batch_id) == batch_id
        )
    ).scalar()
    return kept or {}


def run_ids(connection: Connection, source: str, batch_id: str) -> set[str]:
    """Return the ids of the runs of a batch that have a row."""
    mine = (col(Run.source) == source, col(Run.batch_id) == batch_id)
    return set(connection.scalars(select(col(Run.run_id)).where(*mine)))


def of(
    connection: Connection, source: str, batch_id: str | None, endpoint_id: str | None
) -> list[Watched]:
    """Return the batch with this id and those that are announced at this endpoint, locked."""
    rows = _of(connection, source=source, batch_id=batch_id, endpoint_id=endpoint_id)
    return [Watched(**row._mapping) for row in rows]


@statement
def _of(source: Any, batch_id: Any, endpoint_id: Any) -> Executable:
    is_named = (col(Batch.source) == source) & (col(Batch.batch_id) == batch_id)
    is_announced = (col(Batch.endpoint_id) == endpoint_id) & (col(Batch.source) == source)
    return (
        select(*_WATCHED)
        .where(is_named | is_announced)  # an index for each
        .order_by(col(Batch.batch_id))
        .with_for_update()
    )


# --- inside -------------------------------------------------------------------------------------


def _known(connection: Connection, source: str, batch_id: str) -> int:
    """Count the runs of a batch that have a row."""
    return connection.execute(
        select(func.count())
        .select_from(Run)
        .where(col(Run.source) == source, col(Run.batch_id) == batch_id)
    ).scalar_one()


def _has_pending(connection: Connection, source: str, batch_id: str) -> bool:
    mine = (col(Batch.source) == source, col(Batch.batch_id) == batch_id)
    return bool(connection.execute(select(col(Batch.pending)).where(*mine)).scalar())


def _this(source: str, batch_id: str) -> Any:
    return update(Batch).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
