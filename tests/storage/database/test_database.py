"""The file beneath: what the connections promise, and what happens when it cannot take more."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

import storage
from storage import CannotStore, DiskFull, Store
from storage.database import Database, now, open_database
from storage.database.sqlite import checkpoints
from storage.database.sqlite import database as module
from storage.database.sqlite.database import BUSY_MILLISECONDS, COMMAND_BUSY_MILLISECONDS
from storage.models import Job
from tests.storage.build import NOON, contents, deliver, delivery, enqueue, rows


def pragmas(connection: Connection) -> dict[str, Any]:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only")
    return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}


SAFE = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "foreign_keys": 1,
    "busy_timeout": BUSY_MILLISECONDS,
    "query_only": 0,
}


@pytest.mark.sqlite
def test_write_connection_survives_a_power_cut(database: Database) -> None:
    assert database.write(pragmas) == SAFE


@pytest.mark.sqlite
def test_command_connection_survives_a_power_cut(made_url: str) -> None:
    store = storage.open(made_url)
    assert store.database.write(pragmas) == {**SAFE, "busy_timeout": COMMAND_BUSY_MILLISECONDS}
    store.close()


@pytest.mark.sqlite
def test_a_read_cannot_write(database: Database) -> None:
    before = contents(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA query_only").scalar() == 1
    with pytest.raises(CannotStore, match="readonly"), database.read() as connection:
        connection.exec_driver_sql("DELETE FROM meta")
    assert contents(database) == before


def test_a_read_sees_one_moment(database: Database) -> None:
    count = select(func.count()).select_from(Job)
    with database.read() as connection:
        assert connection.execute(count).scalar() == 0
        enqueue(database)
        assert connection.execute(count).scalar() == 0


@pytest.mark.sqlite
def test_watcher_notices_commits_of_others_only(store: Store) -> None:
    with store.watch() as version:
        before = version()
        assert version() == before
        enqueue(store.database)
        assert version() != before


@pytest.mark.sqlite
def test_a_write_begins_with_the_lock(database: Database) -> None:
    def locked(_: Connection) -> str:
        other = sqlite3.connect(database.name, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return str(error)
        finally:
            other.close()
        return "free"

    assert database.write(locked) == "database is locked"


@pytest.mark.sqlite
def test_errors_hide_the_bound_values(database: Database) -> None:
    secret = "x" * 40
    with pytest.raises(Exception, match="CHECK") as refusal:
        enqueue(database, kind=secret)
    assert secret not in str(refusal.value)


# --- the clock ----------------------------------------------------------------------------------


def test_moments_come_back_aware_and_exact(database: Database) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    enqueue(database, due=moment)
    found = rows(database, Job)[0].next_attempt_at
    assert (found, found.tzinfo) == (moment, UTC)


@pytest.mark.sqlite
@pytest.mark.parametrize("moment", [NOON, NOON.replace(microsecond=7), NOON.replace(year=2000)])
def test_stamps_read_back_as_stored(database: Database, moment: datetime) -> None:
    enqueue(database, due=moment)
    with database.read() as connection:
        raw = connection.exec_driver_sql("SELECT next_attempt_at FROM jobs").scalar()
    assert raw == moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def test_the_clock_is_in_utc() -> None:
    assert now().tzinfo is UTC


# --- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A disk with too little space left; call it to make room."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "SPARE_BYTES", 1 << 62)
        yield patch.undo


@pytest.mark.sqlite
def test_full_disk_refuses_early_and_recovers(store: Store, full_disk: Callable[[], None]) -> None:
    before = contents(store.database)
    with pytest.raises(DiskFull, match=r"free beside resultsink\.db"):
        store.probe()
    with pytest.raises(DiskFull):
        deliver(store, delivery())
    assert contents(store.database) == before
    full_disk()
    assert deliver(store, delivery()) == ["accepted"]


@pytest.mark.sqlite
def test_disk_filled_by_wal_is_freed(short_log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grew beside a reader; nobody can write any more, so no commit would cut it."""
    monkeypatch.setattr(checkpoints, "LIMIT_PAGES", 1 << 20)
    log = Path(f"{short_log.name}-wal")
    with short_log.read() as connection:
        connection.exec_driver_sql("SELECT * FROM meta").all()
        for _ in range(30):
            write_much(short_log)

    def quota(_path: object) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=(1 << 30) - log.stat().st_size, f_frsize=1)

    monkeypatch.setattr(module, "SPARE_BYTES", (1 << 30) - (1 << 20))
    monkeypatch.setattr(os, "statvfs", quota)
    assert write_much(short_log) < 1 << 20


@pytest.mark.usefixtures("full_disk")
@pytest.mark.sqlite
def test_reads_work_on_a_full_disk(store: Store) -> None:
    beside = storage.open(f"sqlite:///{Path(store.name)}")
    assert beside.batches.list_newest() == []
    beside.close()


# --- a locked database --------------------------------------------------------------------------


@pytest.fixture
def intruder(store: Store) -> Iterator[sqlite3.Connection]:
    """Another program that holds the write lock."""
    connection = sqlite3.connect(Path(store.name), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest.mark.sqlite
def test_locked_database_refuses_in_time_and_recovers(
    store: Store, intruder: sqlite3.Connection
) -> None:
    began = time.monotonic()
    with pytest.raises(CannotStore, match="locked"):
        deliver(store, delivery())
    assert time.monotonic() - began > BUSY_MILLISECONDS / 1000 * 0.9
    intruder.execute("ROLLBACK")
    assert deliver(store, delivery()) == ["accepted"]
    assert store.database.write(pragmas) == SAFE


@pytest.mark.usefixtures("intruder")
@pytest.mark.sqlite
def test_a_locked_database_can_be_read(store: Store) -> None:
    assert store.events.list_newest() == []


@pytest.mark.sqlite
def test_failed_connection_is_replaced(database: Database) -> None:
    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA cache_size = 77")
        connection.exec_driver_sql("SELECT * FROM nowhere")

    def setting(connection: Connection) -> Any:
        names = ("cache_size", "wal_autocheckpoint")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    before = database.write(setting)
    with pytest.raises(OperationalError, match="nowhere"):
        database.write(fail)
    assert database.write(setting) == before
    assert database.write(pragmas) == SAFE


@pytest.mark.sqlite
def test_statement_error_is_not_temporary(
    database: Database,
) -> None:
    ids = ", ".join("?" * 300_000)  # more than SQLite's variables

    def ask(connection: Connection) -> Any:
        return connection.exec_driver_sql(f"SELECT 1 WHERE 1 IN ({ids})", (1,) * 300_000)

    with pytest.raises(OperationalError, match="too many SQL variables"):
        database.write(ask)
    with pytest.raises(OperationalError, match="too many"), database.read() as connection:
        ask(connection)


@pytest.mark.sqlite
def test_corrupt_database_is_a_temporary_fault(made_url: str) -> None:
    path = Path(made_url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        jobs = "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'"
        (page,) = connection.execute(jobs).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"x" * size)
    database = open_database(made_url)
    with pytest.raises(CannotStore, match="malformed"):
        enqueue(database)
    database.close()


# --- the log ------------------------------------------------------------------------------------


def write_much(database: Database) -> int:
    """A transaction of 300 kB; returns the size of the log behind it."""
    big = "x" * 300_000
    database.write(
        lambda c: c.exec_driver_sql("INSERT OR REPLACE INTO meta VALUES ('big', ?)", (big,))
    )
    return os.stat(f"{database.name}-wal").st_size


@pytest.fixture
def short_log(made_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A served database whose log is begun anew from a megabyte on, and keeps two at most."""
    for name, value in (("LIMIT_PAGES", 256), ("START_BYTES", 0), ("PERIOD_SECONDS", 0.01)):
        monkeypatch.setattr(checkpoints, name, value)
    monkeypatch.setattr(module, "KEPT_BYTES", 2 << 20)
    database = open_database(made_url, serve=True)
    yield database
    database.close()


@pytest.mark.sqlite
def test_wal_restarts_while_writing_goes_on(short_log: Database) -> None:
    sizes = [write_much(short_log) for _ in range(300)]
    assert max(sizes) < 300 * 300_000 / 2


@pytest.mark.sqlite
def test_wal_grown_beside_reader_shrinks_again(short_log: Database) -> None:
    with short_log.read() as connection:
        connection.exec_driver_sql("SELECT * FROM meta").all()
        grown = max(write_much(short_log) for _ in range(40))
    deadline = time.monotonic() + 20
    while (size := write_much(short_log)) >= grown and time.monotonic() < deadline:
        pass
    assert grown > 10_000_000 > size


@pytest.mark.sqlite
def test_command_commits_keep_the_wal_short(made_url: str) -> None:
    database = open_database(made_url)
    pages = database.write(lambda c: c.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar())
    database.close()
    assert pages == 1000


@pytest.mark.sqlite
def test_closing_leaves_one_complete_file(store: Store) -> None:
    deliver(store, delivery())
    store.close()
    assert not Path(f"{Path(store.name)}-wal").exists()
    connection = sqlite3.connect(Path(store.name))
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
    connection.close()
