"""Rows that these tests put into a database, and ways to look at them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Event
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select, update
from sqlmodel import SQLModel, col

from storage import Store, jobs
from storage.database import Database
from storage.deliveries import recording
from storage.deliveries.recording import VerifiedDelivery
from storage.fetched import FetchedRun
from storage.jobs.lease import AttemptOutcome, Lease
from storage.jobs.new import NewJob, new_job
from storage.models import FoundBy, Job
from storage.runs import results
from storage.runs.results import ResultPage, Stored
from storage.runs.rows import chunks_of
from tests.processes import DEADLINE

T = TypeVar("T")

NOON = datetime(2026, 10, 5, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


# --- looking ------------------------------------------------------------------------------------


def rows(database: Database, model: type[SQLModel]) -> list[Row[Any]]:
    """All rows of a table, in the order of their keys."""
    with database.read() as connection:
        return _rows(connection, model)


def _rows(connection: Connection, model: type[SQLModel]) -> list[Row[Any]]:
    table = SQLModel.metadata.tables[str(model.__tablename__)]
    return list(connection.execute(select(table).order_by(*table.primary_key)).all())


def contents(database: Database) -> dict[str, list[Row[Any]]]:
    """Everything in the database, to prove that nothing was written."""
    with database.read() as connection:
        return {
            table.name: list(connection.execute(select(table).order_by(*table.primary_key)).all())
            for table in SQLModel.metadata.sorted_tables
        }


class _Undo(Exception):
    pass


def undone(database: Database, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction that is rolled back: an empty database for each example."""
    outcome: list[T] = []

    def run(connection: Connection) -> None:
        outcome.append(work(connection))
        raise _Undo

    try:
        database.write(run)
    except _Undo:
        return outcome[0]
    raise AssertionError


# --- deliveries ---------------------------------------------------------------------------------


def delivery(key: str = "event", body: bytes = b"{}", **other: Any) -> VerifiedDelivery:
    """A verified delivery that makes a job for the run `run-1`."""
    values = {
        "source": "valyu",
        "endpoint_id": None,
        "key": key,
        "disposition": "fetch",
        "subject_kind": "run",
        "subject": "run-1",
        "headers": "webhook-id: 1\n",
        "body": body,
        "digest": sha256(body).digest(),
        **other,
    }
    return VerifiedDelivery(**values)


def deliver(store: Store, *group: VerifiedDelivery) -> list[str | Exception]:
    """Deliver a group through the store and wait for what is said of each."""
    said = Event()
    answer: list[Any] = []

    def done(outcomes: list[str | Exception] | None, error: BaseException | None) -> None:
        answer.extend((outcomes, error))
        said.set()

    store.deliveries.record(group, done)
    assert said.wait(DEADLINE), "nobody had an answer"
    if answer[1] is not None:
        raise answer[1]
    outcomes: list[str | Exception] = answer[0]
    return outcomes


def record(database: Database, *group: VerifiedDelivery) -> list[str | Exception]:
    """Record a group at noon."""
    return database.write(lambda c: recording.record(c, group, now=NOON))


# --- jobs ---------------------------------------------------------------------------------------


def enqueue(database: Database, *, due: datetime = NOON, **other: Any) -> int:
    """Add a job, a fetch that is due at noon unless told otherwise; returns its id."""
    fresh = new_job(
        "fetch",
        source="valyu",
        subject_kind="run",
        subject="run-1",
        endpoint_id=None,
        due=due,
        now=NOON,
    )
    own = {name: other.pop(name) for name in NewJob._fields if name in other}
    database.write(lambda c: jobs.enqueue(c, fresh._replace(**own)))
    job_id = int(rows(database, Job)[-1].id)
    if other:
        database.write(lambda c: c.execute(update(Job).where(col(Job.id) == job_id).values(other)))
    return job_id


def claim(
    database: Database, *, now: datetime = NOON, limit: int = 10, source: str = "valyu"
) -> list[Lease]:
    """Claim the due jobs of a source."""
    return database.write(lambda c: jobs.claim(c, source, limit=limit, now=now))


def claimed(database: Database, **job: Any) -> Lease:
    """Enqueue a job and claim it."""
    enqueue(database, **job)
    (lease,) = claim(database)
    return lease


def job(database: Database, job_id: int) -> Row[Any]:
    """One job as it stands in the table."""
    return next(row for row in rows(database, Job) if row.id == job_id)


def tried(
    outcome: str = "done", detail: str | None = None, *, start: datetime = NOON
) -> AttemptOutcome:
    """A try that took no time."""
    return AttemptOutcome(start, 0.0, outcome, detail)


# --- results ------------------------------------------------------------------------------------


def run(run_id: str = "run-1", status: str = "completed", **other: Any) -> FetchedRun:
    """A run as the sender's API shows it."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "status": status,
        "sender_status": status,
        "raw": {"id": run_id},
        **other,
    }
    return FetchedRun(**values)


def keep(
    connection: Connection,
    *page: FetchedRun,
    fetched_at: datetime = NOON,
    origin: str = "api",
    found_by: FoundBy = "check",
    now: datetime | None = None,
) -> Stored:
    """Store a page of fetched runs."""
    (chunk,) = chunks_of(page)
    pages = [ResultPage(chunk.rows, fetched_at, found_by, origin)]
    (stored,) = results.store(connection, "valyu", pages, now=now or fetched_at)
    return stored
