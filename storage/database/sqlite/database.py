"""SQLite: engines, pragmas, the one writer.

One thread owns the one write connection; it runs acks first and work after, each in one
transaction: BEGIN IMMEDIATE, COMMIT, synced. Readers have connections of their own that cannot
write.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    TimeoutError,
)
from sqlalchemy.pool import NullPool, QueuePool

from storage import migrations
from storage.database.base import Database, Done, Work, now
from storage.database.errors import is_not_now, reading, reason
from storage.database.sqlite.checkpoints import KEPT_BYTES, Checkpointer
from storage.database.sqlite.files import claim, is_served, refusal, sqlite_path, unserved
from storage.database.sqlite.recognition import look
from storage.database.writer import Writer
from storage.errors import CannotOpen, CannotStore, DiskFull

T = TypeVar("T")

BUSY_MILLISECONDS = 1_500
"""How long a statement waits for another process's transaction: less than an answer may take."""

COMMAND_BUSY_MILLISECONDS = 15_000
"""How long a statement of a command waits, beside a process that serves under load."""

SPARE_BYTES = 32 * 1024 * 1024
"""Free space below which nothing is written: a commit must never find the disk full half way."""

_READERS: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 48}
"""One for each thread: opening a connection costs far more than reading by it."""

log = logging.getLogger(__name__)

_ROWS_FAULT = (IntegrityError, DataError, InterfaceError, ProgrammingError)
"""Errors of a row or a statement, not of the database."""


class SqliteDatabase(Database):
    """An open SQLite file. `serve=True` claims it for this process until `close()`.

    Raises CannotOpen (or one of its kinds) with a sentence that says what to do; nothing is
    changed then.
    """

    is_shared = False

    def __init__(self, url: str, *, serve: bool = False) -> None:
        self.path = sqlite_path(url)
        self.name = str(self.path)
        revision = look(self.path)
        self._lock = claim(self.path) if serve else None
        try:
            self._open(revision, serves=serve)
        except BaseException:
            self._release()
            raise

    def _open(self, revision: str | None, *, serves: bool) -> None:
        """A serving process waits less for others, and makes checkpoints beside its commits."""
        self._serves = serves
        self._busy = BUSY_MILLISECONDS if serves else COMMAND_BUSY_MILLISECONDS
        self._write_engine = make_engine(self.path, writes=True, busy=self._busy)
        self._read_engine = make_engine(self.path, writes=False, busy=self._busy)
        try:
            if revision != migrations.HEAD:  # only a change of the schema takes the write lock
                with self._unserved(revision):
                    self._migrate()
            self._connection: Connection | None = self._connect()
        except DBAPIError as error:
            raise refusal(self.path, error.orig) from error
        self._is_log_long = False
        self._writer = Writer(self._run)
        self._checkpointer = None
        if serves:
            self._checkpointer = Checkpointer(self.path, self._restart_log_soon)

    def _unserved(self, revision: str | None) -> AbstractContextManager[None]:
        """Keep servers out where there are tables to change, unless we are the one that serves."""
        if self._lock is not None or revision is None or revision > migrations.HEAD:
            return nullcontext()
        return unserved(self.path, revision, migrations.HEAD)

    def _migrate(self) -> None:
        """Migrate in one transaction. Foreign keys are checked at its end, not during it: SQLite
        changes a table by making it anew, and would take its rows for deleted
        (https://sqlite.org/lang_altertable.html).
        """
        with self._write_engine.connect() as connection:
            _driver(connection).execute("PRAGMA foreign_keys = OFF")
            with connection.begin():
                migrations.upgrade(connection)
                strays = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if strays:
                    raise CannotOpen(f"{self.path} holds rows without their parents: {strays[:3]}.")

    # --- writing -------------------------------------------------------------------------------

    def write(self, work: Callable[[Connection], T], *, urgent: bool = False) -> T:
        del urgent  # here only acks go first
        return self._writer.call(work)

    def submit(self, work: Work, done: Done) -> None:
        self._writer.submit(work, done, urgent=True)

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._transaction() as connection:
            return work(connection)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self._refuse_a_full_disk()
        try:
            if self._connection is None:
                self._connection = self._connect()
            with self._connection.begin():
                yield self._connection
        except (DBAPIError, TimeoutError) as error:
            if isinstance(error, _ROWS_FAULT):
                raise
            self._forget_connection()
            if not is_not_now(error):
                raise
            raise CannotStore(f"The database cannot store now: {reason(error)}.") from error
        self._restart_log_if_due()

    def _connect(self) -> Connection:
        connection = self._write_engine.connect()
        if self._serves:
            _driver(connection).execute("PRAGMA wal_autocheckpoint = 0")
            _driver(connection).execute(f"PRAGMA journal_size_limit = {KEPT_BYTES}")
        return connection

    def _forget_connection(self) -> None:
        """Start from a fresh connection after a failure: the old one may be unusable."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _refuse_a_full_disk(self) -> None:
        if self._has_space():
            return
        self._checkpoint("TRUNCATE")  # the log itself may fill the disk, grown beside a reader
        if not self._has_space():
            raise DiskFull(f"Less than {SPARE_BYTES >> 20} MiB are free beside {self.path.name}.")

    def _has_space(self) -> bool:
        try:
            space = os.statvfs(self.path.parent)
        except OSError as error:  # the volume is not mounted
            raise CannotStore(f"The database cannot store now: {error}.") from error
        return space.f_bavail * space.f_frsize >= SPARE_BYTES

    def _restart_log_soon(self) -> None:
        self._is_log_long = True

    def _restart_log_if_due(self) -> None:
        if self._is_log_long:
            self._is_log_long = False
            self._checkpoint("RESTART")

    def _checkpoint(self, mode: str) -> None:
        """Move the log between two transactions, without waiting for readers; it is tried again."""
        if self._connection is None:
            return
        raw = _driver(self._connection)
        raw.execute("PRAGMA busy_timeout = 0")
        try:
            raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:  # the commit before stands, whatever happens to the log
            log.debug("the write-ahead log could not be emptied: %s", error)
        finally:
            raw.execute(f"PRAGMA busy_timeout = {self._busy}")

    # --- reading -------------------------------------------------------------------------------

    @contextmanager
    def read(self, *, urgent: bool = False) -> Iterator[Connection]:
        """Open a read; a long one keeps the write-ahead log from shrinking."""
        del urgent  # readers never wait
        with reading(), self._read_engine.begin() as connection:
            yield connection

    @contextmanager
    def watch(self) -> Iterator[Callable[[], object]]:
        with self._read_engine.connect() as connection:
            raw = _driver(connection)

            def version() -> object:
                try:
                    return raw.execute("PRAGMA data_version").fetchone()
                except sqlite3.Error as error:
                    raise CannotStore(f"The database cannot be read now: {error}.") from error

            yield version

    # --- one process ---------------------------------------------------------------------------

    def now(self) -> datetime:
        return now()

    def look_at_clock(self, connection: Connection) -> datetime:
        del connection
        return now()

    def is_served(self) -> bool:
        return is_served(self.path)

    def hint(self) -> None:
        """Do nothing: no other process works on this file."""

    def listen(self, on_notify: Callable[[], None]) -> None:
        """Do nothing: no other process takes deliveries in."""

    # --- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish queued writes, close every connection, and free the file."""
        if self._checkpointer is not None:
            self._checkpointer.close()
        self._writer.close()
        self._forget_connection()
        self._read_engine.dispose()
        self._write_engine.dispose()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection, for pragmas that belong to no transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the only driver there is
    return raw


def make_engine(path: Path, *, writes: bool, busy: int = COMMAND_BUSY_MILLISECONDS) -> Engine:
    """Return an engine for the file; statements wait `busy` milliseconds for other processes."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        **({"poolclass": NullPool} if writes else _READERS),
        # error texts end up in logs, and parameters hold bodies
        hide_parameters=True,
        connect_args={"check_same_thread": False, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # transactions are begun below, not by the driver
        raw.execute(f"PRAGMA busy_timeout = {busy}")
        for pragma in _PRAGMAS if writes else (*_PRAGMAS, "query_only = ON"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


_PRAGMAS = (
    "journal_mode = WAL",
    # "acknowledged after COMMIT" must hold when the power fails, not only when the process dies
    "synchronous = FULL",
    "foreign_keys = ON",
    # statement journals of multi-row inserts stay in memory: a third less is written per row
    "temp_store = MEMORY",
)
