"""Submissions that are not finished: stored before the first call, deleted when they have ended."""

import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, case, delete, select, update
from sqlmodel import col

from storage.database import insert
from storage.errors import NotFound, SubmissionTaken
from storage.json_text import clean
from storage.models import Batch, Endpoint, Run, SubmissionRow, SubmissionTask

Kind = Literal["batch", "addition", "run"]
Call = Literal["task", "batch", "runs"]


@dataclass(frozen=True, slots=True)
class NewSubmission:
    """A thing to be submitted: a new batch, an addition to a batch, or a single run.

    before: runs that the sender counts in the batch so far. skipped: tasks of the user's file that
    were left out before these.
    """

    source: str
    kind: Kind
    plan: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] | None = None
    batch_id: str | None = None
    before: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task of a submission: the user's id, the object that the sender takes, the whole input."""

    task_id: str | None
    body: Mapping[str, Any]
    input: Mapping[str, Any]
    endpoint_id: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as it stands; see SubmissionRow. `owner` is whoever has read it."""

    id: str
    source: str
    kind: Kind
    batch_id: str | None
    endpoint_id: str | None
    task_id: str | None
    plan: Mapping[str, Any]
    defaults: Mapping[str, Any] | None
    total: int
    skipped: int
    before: int
    done: int
    accepted: int
    calling: Call | None
    called_at: datetime | None
    step: int
    owner: str
    created_at: datetime


_COLUMNS: tuple[Any, ...] = tuple(
    getattr(SubmissionRow, column.name) for column in fields(Submission)
)


def new_id() -> str:
    """Return an id for a submission."""
    return f"sub_{random.token_hex(8)}"


def rows_of(submission_id: str, tasks: Sequence[StoredTask]) -> list[dict[str, Any]]:
    """Return the rows of its tasks, which take a while where there are many."""
    return [
        {
            "submission_id": submission_id,
            "position": position,
            "task_id": task.task_id,
            "body": clean(dict(task.body)),
            "input": clean(dict(task.input)),
            "endpoint_id": task.endpoint_id,
        }
        for position, task in enumerate(tasks)
    ]


def begin(
    connection: Connection,
    new: NewSubmission,
    submission_id: str,
    tasks: Sequence[Mapping[str, Any]],
    *,
    endpoint_id: str | None,
    now: datetime,
) -> Submission:
    """Add a submission with the rows of its tasks, which are pending in a batch that is known."""
    connection.execute(
        insert(SubmissionRow).values(
            id=submission_id,
            source=new.source,
            kind=new.kind,
            batch_id=new.batch_id,
            endpoint_id=endpoint_id,
            task_id=new.plan.get("task_id"),
            plan=clean(dict(new.plan)),
            defaults=None if new.defaults is None else clean(dict(new.defaults)),
            total=len(tasks),
            skipped=new.skipped,
            before=new.before,
            done=0,
            accepted=0,
            step=0,
            owner="",
            created_at=now,
        )
    )
    if tasks:
        connection.execute(insert(SubmissionTask), tasks)
    if new.batch_id is not None:
        add_pending(connection, new.source, new.batch_id, len(tasks))
    return find(connection, submission_id)


def find(connection: Connection, submission_id: str) -> Submission:
    """Return a submission, to be gone on with by its new owner; raises NotFound."""
    row = connection.execute(
        select(*_COLUMNS).where(col(SubmissionRow.id) == submission_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no unfinished submission {submission_id}: see `batch list`.")
    return _of(row)


def list_all(
    connection: Connection, *, source: str | None = None, batch_id: str | None = None
) -> list[Submission]:
    """Return the unfinished submissions, oldest first."""
    query = select(*_COLUMNS).order_by(col(SubmissionRow.created_at), col(SubmissionRow.id))
    if source is not None:
        query = query.where(col(SubmissionRow.source) == source)
    if batch_id is not None:
        query = query.where(col(SubmissionRow.batch_id) == batch_id)
    return [_of(row) for row in connection.execute(query)]


def tasks(
    connection: Connection, submission_id: str, *, start: int = 0, limit: int | None = None
) -> list[StoredTask]:
    """Return tasks of a submission in their order, from position `start`."""
    columns = [col(getattr(SubmissionTask, column.name)) for column in fields(StoredTask)]
    position = col(SubmissionTask.position)
    query = select(*columns).where(
        col(SubmissionTask.submission_id) == submission_id, position >= start
    )
    if limit is not None:
        query = query.where(position < start + limit)
    return [StoredTask(**row._mapping) for row in connection.execute(query.order_by(position))]


def change(connection: Connection, known: Submission, **values: Any) -> Submission:
    """Write the next step; raises SubmissionTaken where another process has gone on.

    A repeated call, because the answer to a COMMIT was lost, changes nothing more.
    """
    step, owner = col(SubmissionRow.step), col(SubmissionRow.owner)
    mine = (step == known.step + 1) & (owner == known.owner)
    changed = connection.execute(
        update(SubmissionRow)
        .where(col(SubmissionRow.id) == known.id, (step == known.step) | mine)
        .values(step=known.step + 1, owner=known.owner, **values)
    )
    if changed.rowcount != 1:
        raise _taken(known)
    row = connection.execute(select(*_COLUMNS).where(col(SubmissionRow.id) == known.id)).one()
    return _of(row, owner=known.owner)


def created(
    connection: Connection, known: Submission, batch_id: str, *, task_id: str | None
) -> Submission:
    """Note the batch that was made, in which all tasks are pending; raises SubmissionTaken."""
    if not _is_changed(connection, known):
        add_pending(connection, known.source, batch_id, known.total)
    values = {"task_id": task_id} if task_id is not None else {}
    return change(connection, known, batch_id=batch_id, calling=None, **values)


def advance(connection: Connection, known: Submission, *, done: int, accepted: int) -> Submission:
    """Note so many more tasks as done, and as accepted; it ends with the last task.

    Raises SubmissionTaken, but not where it has ended: this may be a repetition.
    """
    done_then, accepted_then = known.done + done, known.accepted + accepted
    if not _exists(connection, known):
        return replace(known, done=done_then, accepted=accepted_then, calling=None)
    if known.batch_id is not None and not _is_changed(connection, known):
        add_pending(connection, known.source, known.batch_id, -done)
    advanced = change(connection, known, done=done_then, accepted=accepted_then, calling=None)
    if advanced.done >= advanced.total:
        end(connection, advanced)
    return advanced


def set_endpoints(
    connection: Connection, known: Submission, start: int, endpoint_ids: Sequence[str | None]
) -> None:
    """Store the endpoints of tasks, from position `start`."""
    for position, endpoint_id in enumerate(endpoint_ids, start=start):
        connection.execute(
            update(SubmissionTask)
            .where(
                col(SubmissionTask.submission_id) == known.id,
                col(SubmissionTask.position) == position,
            )
            .values(endpoint_id=endpoint_id)
        )


def batch_called_back(connection: Connection, known: Submission) -> str | None:
    """Return the batch of a run that has called back at an endpoint of a task, or None."""
    found: str | None = connection.execute(
        select(col(Run.batch_id))
        .join(Endpoint, (col(Endpoint.resource) == col(Run.run_id)))
        .join(SubmissionTask, col(SubmissionTask.endpoint_id) == col(Endpoint.id))
        .where(
            col(SubmissionTask.submission_id) == known.id,
            col(Run.source) == known.source,
            col(Run.batch_id).is_not(None),
        )
        .limit(1)
    ).scalar()
    return found


def end(connection: Connection, known: Submission) -> None:
    """Delete a submission that is finished or given up; what was pending is so no more.

    Raises SubmissionTaken where another process has gone on. One that is gone already stays so.
    """
    step = connection.execute(
        select(col(SubmissionRow.step)).where(col(SubmissionRow.id) == known.id).with_for_update()
    ).scalar()
    if step is None:
        return
    if step != known.step:
        raise _taken(known)
    if known.batch_id is not None:
        add_pending(connection, known.source, known.batch_id, known.done - known.total)
    connection.execute(delete(SubmissionTask).where(col(SubmissionTask.submission_id) == known.id))
    connection.execute(delete(SubmissionRow).where(col(SubmissionRow.id) == known.id))


def add_pending(connection: Connection, source: str, batch_id: str, count: int) -> None:
    """Count so many tasks more (or fewer) as still to be added to a batch."""
    pending = col(Batch.pending) + count
    connection.execute(
        update(Batch)
        .where(col(Batch.source) == source, col(Batch.batch_id) == batch_id)
        .values(pending=case((pending > 0, pending), else_=0))
    )


def _exists(connection: Connection, known: Submission) -> bool:
    query = select(col(SubmissionRow.id)).where(col(SubmissionRow.id) == known.id)
    return connection.execute(query).first() is not None


def _is_changed(connection: Connection, known: Submission) -> bool:
    """Return True where the next step is written already, by the same owner."""
    row = connection.execute(
        select(col(SubmissionRow.step), col(SubmissionRow.owner)).where(
            col(SubmissionRow.id) == known.id
        )
    ).one_or_none()
    return row is not None and (row.step, row.owner) == (known.step + 1, known.owner)


def _of(row: Row[Any], *, owner: str | None = None) -> Submission:
    values = {**row._mapping, "owner": owner or random.token_hex(8)}
    return Submission(**values)


def _taken(known: Submission) -> SubmissionTaken:
    return SubmissionTaken(
        f"Another command goes on with submission {known.id}, or has ended it: see `batch list`."
    )
