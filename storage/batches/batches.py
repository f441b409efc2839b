"""Batches and their ledger: what is expected, announced, stored and failed, by ids and counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Row,
    bindparam,
    case,
    func,
    select,
    update,
)
from sqlmodel import col

from storage.batches import idempotency_keys
from storage.database import as_dicts, insert, is_alone, statement
from storage.errors import NotFound
from storage.fetched import TERMINAL, FetchedBatch, SubmittedRun
from storage.json_text import clean
from storage.models import Batch, Result, Run


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is known of a batch. `state` is ours (open, complete), `sender_status` the sender's.

    expected: runs that the sender counts or that we know, whichever is more.
    announced: runs that the sender has said are at their end.
    stored: runs whose result is here; failed: those of them that failed or were cancelled; pruned:
    those of them of which only that is kept, their content having reached its age.
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
    """Know a batch; knowing it again fills in what was missing."""
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
    unlisted: int = 0,
    addition: str | None = None,
    now: datetime,
) -> None:
    """Expect the runs that the sender accepted, with their inputs, and `unlisted` unknown ones.

    The batch is open again unless the results of all of them are here: a webhook and its fetch
    may be faster than the answer to the addition. What is repeated under the same `addition`
    counts its unknown runs once.
    """
    lock(connection, source, batch_id)
    if (
        unlisted
        and addition is not None
        and not idempotency_keys.is_new(connection, addition, now=now)
    ):
        unlisted = 0
    before = _known(connection, source, batch_id)
    _expect(connection, source, batch_id, runs)
    known = _known(connection, source, batch_id)
    submitted = col(Batch.submitted) + (known - before) + unlisted
    connection.execute(
        _this(source, batch_id).values(
            submitted=case((submitted > known, submitted), else_=known),
        )
    )
    found = ledger(connection, source, batch_id)
    if found.stored < found.expected:
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
    """Keep others from counting or completing this batch, or bringing it runs, until our COMMIT.

    Whoever also writes about jobs does this first, so that two never wait for each other.
    """
    if batch_id is not None and not is_alone(connection):
        connection.execute(
            select(col(Batch.id))
            .where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
            .with_for_update()
        )


def hold(connection: Connection, source: str, batch_ids: Iterable[str]) -> None:
    """Keep others from counting these batches until our COMMIT; many may bring them runs at once.

    A count must have all runs that are on their way, or none.
    """
    names = sorted(set(batch_ids))
    if names and not is_alone(connection):
        connection.execute(
            select(col(Batch.id))
            .where(col(Batch.source) == source, col(Batch.batch_id).in_(names))
            .order_by(col(Batch.batch_id))
            .with_for_update(read=True, key_share=True)
        )


def _known(connection: Connection, source: str, batch_id: str) -> int:
    """How many runs of a batch we know."""
    return connection.execute(
        select(func.count())
        .select_from(Run)
        .where(col(Run.source) == source, col(Run.batch_id) == batch_id)
    ).scalar_one()


def save(
    connection: Connection, source: str, batch: FetchedBatch, *, announced: bool, now: datetime
) -> Ledger:
    """Keep what a status call said; a batch that has grown since its end is open again."""
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
    if found.state == "complete" and found.stored < found.expected:
        connection.execute(_this(source, batch.batch_id).values(state="open", completed_at=None))
    return ledger(connection, source, batch.batch_id)


def settle(connection: Connection, source: str, batch: FetchedBatch, *, now: datetime) -> Ledger:
    """Call the batch complete if it is: by its runs and the sender's counts, never by its status.

    Complete means: the sender calls it ended, every run that we know or the sender counts is
    terminal there, and each one's result is stored. What a later status call counted is among the
    expected. A sender that tells no counts is never taken at its word.
    """
    lock(connection, source, batch.batch_id)
    found = ledger(connection, source, batch.batch_id)
    known = _known(connection, source, batch.batch_id)
    total = batch.total
    ended = total if batch.ended is None else batch.ended
    agreed = ended == total == known == found.stored == found.expected
    if batch.is_terminal and total is not None and agreed:
        connection.execute(
            _this(source, batch.batch_id)
            .where(col(Batch.state) == "open")
            .values(state="complete", completed_at=now)
        )
    return ledger(connection, source, batch.batch_id)


def ledger(connection: Connection, source: str, batch_id: str) -> Ledger:
    """The ledger of one batch; raises NotFound."""
    row = connection.execute(
        select(Batch).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no batch {batch_id} of source {source}: see `batch list`.")
    return _ledger(connection, row)


def find(connection: Connection, batch_id: str, *, source: str | None = None) -> Ledger:
    """The ledger of the batch with this id in whichever source; raises NotFound."""
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


@dataclass(frozen=True, slots=True)
class Watched:
    """As much of a batch as is needed to watch it; reading it counts nothing."""

    source: str
    batch_id: str
    endpoint_id: str | None
    state: str
    created_at: datetime


_WATCHED: tuple[Any, ...] = tuple(col(getattr(Batch, field.name)) for field in fields(Watched))


def watched(connection: Connection, source: str, batch_id: str) -> Watched | None:
    """A batch without its counts, or None."""
    row = _watched(connection, source=source, batch_id=batch_id).one_or_none()
    return None if row is None else Watched(**row._mapping)


@statement
def _watched(source: Any, batch_id: Any) -> Executable:
    return select(*_WATCHED).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)


def defaults(connection: Connection, source: str, batch_id: str) -> dict[str, Any]:
    """What an addition to a batch must say again; empty where nothing is kept."""
    kept = connection.execute(
        select(col(Batch.defaults)).where(
            col(Batch.source) == source, col(Batch.batch_id) == batch_id
        )
    ).scalar()
    return kept or {}


def of(
    connection: Connection, source: str, batch_id: str | None, endpoint_id: str | None
) -> list[Watched]:
    """The batch with this id, and those that are announced at this endpoint; locked."""
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


def list_page(
    connection: Connection, *, source: str | None, limit: int, before: int | None
) -> tuple[list[Ledger], int | None]:
    """The newest batches, newest first, of those `before` a row; and that row for the next page."""
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
            .where(col(Result.run_pk) == col(Run.id), col(Result.is_current), _is_of_its_end())
            .exists(),
        )
        .order_by(col(Run.id))
        .limit(limit)
    )
    return as_dicts(rows)


def _is_of_its_end() -> ColumnElement[bool]:
    """Whether a result is that of its run's end: a run that ended anew brings another."""
    return col(Run.status).not_in(TERMINAL) | (col(Run.status) == col(Result.status))


def _this(source: str, batch_id: str) -> Any:
    return update(Batch).where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)


def _ledger(connection: Connection, row: Row[Any]) -> Ledger:
    known, stored, failed, pruned = connection.execute(
        select(
            func.count(col(Run.id)),
            func.count(col(Result.id)).filter(_is_of_its_end()),
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
        expected=max(known, row.submitted, counts.get("total") or 0),
        announced=max(stored, counts.get("ended") or 0),
        stored=stored,
        failed=failed,
        created_at=row.created_at,
        completed_at=row.completed_at,
        pruned=pruned,
    )
