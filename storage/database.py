"""The database under the store: engines, pragmas, the one writer, the clock.

The only file, beside `files`, that knows the dialect. On SQLite one thread owns the one write
connection; it takes acks first and work after, and every piece is one transaction: BEGIN
IMMEDIATE, COMMIT, synced. Readers have connections of their own that cannot write.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects import sqlite
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
from storage.checkpoints import Checkpointer
from storage.errors import CannotOpen, CannotStore, DiskFull
from storage.files import claim, look, refusal, sqlite_path
from storage.writer import Done, Work, Writer

T = TypeVar("T")

BUSY_MILLISECONDS = 1_500
"""How long a statement waits for another process's transaction: less than an answer may take."""

SPARE_BYTES = 32 * 1024 * 1024
"""Free space below which nothing is written: a commit must never find the disk full half way."""

log = logging.getLogger(__name__)

insert = sqlite.insert
"""The dialect's INSERT, with its ON CONFLICT."""


class Database:
    """An open SQLite file. `serve=True` claims it for this process until `close()`.

    Raises CannotOpen (or one of its kinds) with a sentence that says what to do; nothing is
    changed then.
    """

    def __init__(self, url: str, *, serve: bool = False) -> None:
        self.path = sqlite_path(url)
        is_current = look(self.path) == migrations.HEAD
        self._lock = claim(self.path) if serve else None
        try:
            self._open(is_current=is_current, checkpoints_in_commits=not serve)
        except BaseException:
            self._release()
            raise

    def _open(self, *, is_current: bool, checkpoints_in_commits: bool) -> None:
        self._write_engine = _engine(self.path, writes=True)
        self._read_engine = _engine(self.path, writes=False)
        try:
            if not is_current:  # the lock is taken only where there is something to write
                self._migrate()
            self._connection: Connection | None = self._connect(checkpoints_in_commits)
        except DBAPIError as error:
            raise refusal(self.path, error.orig) from error
        self._checkpoints_in_commits = checkpoints_in_commits
        self._cut_log = False
        self._writer = Writer(self._transaction)
        self._checkpointer = None
        if not checkpoints_in_commits:
            self._checkpointer = Checkpointer(self.path, self._cut_log_soon)

    def _migrate(self) -> None:
        """In one transaction. Foreign keys are looked at after it, not during: SQLite changes a
        table by making it anew, and would take its rows for deleted (https://sqlite.org/lang_altertable.html).
        """
        with self._write_engine.connect() as connection:
            _driver(connection).execute("PRAGMA foreign_keys = OFF")
            with connection.begin():
                migrations.upgrade(connection)
                strays = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if strays:
                    raise CannotOpen(f"{self.path} holds rows without their parents: {strays[:3]}.")

    # --- writing -------------------------------------------------------------------------------

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction on the writer's thread; return after its COMMIT.

        Raises CannotStore when the database cannot take it now; nothing was written then. What is
        wrong with the statement itself is raised as it is.
        """
        return self._writer.call(work)

    def submit(self, work: Work, done: Done, *, urgent: bool = False) -> None:
        """The same without waiting: `done(value, error)` is called on the writer's thread."""
        self._writer.submit(work, done, urgent=urgent)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self._refuse_a_full_disk()
        try:
            if self._connection is None:
                self._connection = self._connect(self._checkpoints_in_commits)
            with self._connection.begin():
                yield self._connection
        except (DBAPIError, TimeoutError) as error:
            if isinstance(error, _ROWS_FAULT):
                raise
            self._forget_connection()
            if not _is_not_now(error):
                raise
            raise CannotStore(f"The database cannot store now: {_reason(error)}.") from error
        self._cut_log_if_due(self._connection)

    def _connect(self, checkpoints_in_commits: bool) -> Connection:
        connection = self._write_engine.connect()
        if not checkpoints_in_commits:
            _driver(connection).execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _forget_connection(self) -> None:
        """After a failure start from a fresh connection: the old one may be half broken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _refuse_a_full_disk(self) -> None:
        space = os.statvfs(self.path.parent)
        if space.f_bavail * space.f_frsize < SPARE_BYTES:
            raise DiskFull(f"Less than {SPARE_BYTES >> 20} MiB are free beside {self.path.name}.")

    def _cut_log_soon(self) -> None:
        self._cut_log = True

    def _cut_log_if_due(self, connection: Connection) -> None:
        """Between two transactions, without waiting for readers: the next look tries again."""
        if not self._cut_log:
            return
        self._cut_log = False
        raw = _driver(connection)
        raw.execute("PRAGMA busy_timeout = 0")
        try:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            log.warning("the write-ahead log could not be cut back", exc_info=True)
        finally:  # the commit before this stands, whatever became of the log
            raw.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")

    # --- reading -------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view. Keep it short: a long one keeps the write-ahead log from shrinking.

        Raises CannotStore when the database cannot be read now; what is wrong with a statement
        itself is raised as it is.
        """
        try:
            with self._read_engine.begin() as connection:
                yield connection
        except (DBAPIError, TimeoutError) as error:
            if not _is_not_now(error):
                raise
            raise CannotStore(f"The database cannot be read now: {_reason(error)}.") from error

    @contextmanager
    def watch(self) -> Iterator[Callable[[], int]]:
        """Yield a cheap number that changes whenever another connection has committed."""
        with self._read_engine.connect() as connection:
            raw = _driver(connection)
            yield lambda: int(raw.execute("PRAGMA data_version").fetchone()[0])

    # --- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish queued writes, close every connection, let go of the file."""
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
    """The driver's own connection, for pragmas that belong to no transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the only driver there is
    return raw


_ROWS_FAULT = (IntegrityError, DataError, InterfaceError, ProgrammingError)
"""What is wrong with a row or a statement, not with the database."""


_NOT_NOW = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def _is_not_now(error: Exception) -> bool:
    """Whether the database cannot, now: anything else is our statement's fault at any time.

    Whoever waits for the database to recover would wait for ever, and count nothing, where it is
    the statement.
    """
    if isinstance(error, TimeoutError):
        return True
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _NOT_NOW  # the rest of an extended code is detail


def _reason(error: Exception) -> object:
    """The driver's own words, which name the cause."""
    return getattr(error, "orig", None) or error


def now() -> datetime:
    """The clock: an aware datetime in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Write `moment` (UTC) as the datetime columns hold it, for statements sent as text."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _engine(path: Path, *, writes: bool) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool if writes else QueuePool,
        # error texts end up in logs, and parameters hold bodies
        hide_parameters=True,
        connect_args={"check_same_thread": False, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in _PRAGMAS if writes else (*_PRAGMAS, "query_only = ON"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


_PRAGMAS = (
    f"busy_timeout = {BUSY_MILLISECONDS}",
    "journal_mode = WAL",
    # "acknowledged after COMMIT" must hold when the power fails, not only when the process dies
    "synchronous = FULL",
    "foreign_keys = ON",
    # statement journals of multi-row inserts stay in memory: a third less is written per row
    "temp_store = MEMORY",
)
