"""Postgres through psycopg 3: pools for the intake and for work, timeouts, one clock for all.

Any number of processes on any number of machines may use it. A transaction that fails by a deadlock
or a serialization failure is repeated.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, TimeoutError

from storage.database.base import Database, Done, Work
from storage.database.errors import (
    asks_again,
    is_full,
    is_not_now,
    is_read_only,
    reading,
    reason,
)
from storage.database.postgres.drain import Drain
from storage.database.postgres.engine import (
    LONG_IDLE,
    OPENING_SECONDS,
    Pool,
    check_encoding,
    make_engine,
    postgres_url,
    refusal,
    shown_name,
)
from storage.database.postgres.in_time import in_time
from storage.database.postgres.lease import Lease, leases
from storage.database.postgres.names import Names
from storage.database.postgres.pooler import has_session
from storage.database.postgres.presence import CLOCK, Presence
from storage.database.postgres.schema import check_revision, revision
from storage.database.postgres.sessions import IDENTITY, connect_alone, naming_direct_url
from storage.database.postgres.watchdog import Watchdog
from storage.database.writer import Writer
from storage.errors import CannotOpen, CannotStore, DiskFull

T = TypeVar("T")

PROMPT_SECONDS = 0.5
"""A reading of the clock that took longer is not used: it may be wrong by half of that."""

MAX_ATTEMPTS = 5
"""How often a transaction is begun that deadlocks with others."""


class PostgresDatabase(Database):
    """An open Postgres database. With `serve=True` it counts as served until `close()`.

    `direct_url` leads past a pooler, for the one connection of a server that needs a session.
    Raises CannotOpen (or one of its kinds) with a sentence that says what to do. Opening changes
    nothing: the schema is made by `upgrade` alone.
    """

    is_shared = True

    def __init__(
        self, url: str, *, schema: str, serve: bool = False, direct_url: str | None = None
    ) -> None:
        self._url = postgres_url(url)
        self._names = Names(schema)
        self.name = shown_name(self._url)
        self._offset = 0.0
        self._is_measured = False
        self._drain = Drain()
        self._watchdog = watchdog = Watchdog()
        # The intake waits less than an answer may take, and has connections of its own.
        self._intake = Pool(
            self._url, watchdog, schema, size=4, wait=1.0, statement=2.0, lock=1.0, cut=4.0
        )
        self._work = Pool(
            self._url, watchdog, schema, size=12, wait=5.0, statement=10.0, lock=5.0, cut=15.0
        )
        self._direct = (
            make_engine(postgres_url(direct_url), {}, watchdog, schema, pool_size=1)
            if direct_url
            else None
        )
        self._presence: Presence | Lease | None = None
        try:
            self._look()
            if serve:
                self._presence = self._announced()
        except (DBAPIError, psycopg.Error) as error:
            self._dispose()
            raise refusal(self.name, error) from error
        except BaseException:
            self._dispose()
            raise
        self._writer = Writer(lambda work: self._run(self._intake, work))

    def _look(self) -> None:
        with self._limited(self._work, self._work.engine, cut=OPENING_SECONDS) as connection:
            idle = "SET LOCAL idle_in_transaction_session_timeout TO"
            connection.exec_driver_sql(f"{idle} {LONG_IDLE}")
            check_encoding(connection, self.name)
            schema = self._names.schema
            check_revision(revision(connection, schema, self.name), schema, self.name)
            self._has_session = has_session(connection.connection.driver_connection)
            self.look_at_clock(connection)

    def _announced(self) -> Presence | Lease:
        """Tell the others that this process serves; raises CannotOpen during a copy."""
        if self._direct is None and not self._has_session:
            return Lease(self._transact, self.look_at_clock, self._names)
        with naming_direct_url(self._direct) if self._direct else nullcontext():
            return Presence(self._connect_alone, self._measure, self._watchdog.limit, self._names)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, even where the database takes no others."""
        with self._limited(self._work, self._work.engine) as connection:
            return work(connection)

    # --- writing -------------------------------------------------------------------------------

    def write(self, work: Callable[[Connection], T], *, urgent: bool = False) -> T:
        return self._run(self._intake if urgent else self._work, work)

    def submit(self, work: Work, done: Done) -> None:
        self._writer.submit(work, done, urgent=True)

    def _run(self, pool: Pool, work: Callable[[Connection], T]) -> T:
        if self._presence is not None and not self._presence.is_held:
            raise CannotStore("The database is being copied, or its connection was just lost.")
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self._transaction(pool, pool.engine) as connection:
                    return work(connection)
            except (DBAPIError, TimeoutError) as error:
                if is_read_only(error) and self._presence is not None:
                    self._presence.doubt()
                if is_read_only(error) and attempt == 1:
                    continue  # over a new connection: it may lead to another server
                if asks_again(error) and attempt < MAX_ATTEMPTS:
                    time.sleep(random.uniform(0.0, 0.01 * 2**attempt))  # noqa: S311  no secret
                    continue
                if is_full(error):
                    raise DiskFull("The disk of the database server is full.") from error
                if not is_not_now(error):
                    raise
                raise CannotStore(f"The database cannot store now: {reason(error)}.") from error
        raise AssertionError("not reached")

    @contextmanager
    def _transaction(self, pool: Pool, engine: Engine) -> Iterator[Connection]:
        with self._drain.counted(), self._limited(pool, engine) as connection:
            yield connection

    @contextmanager
    def _limited(
        self, pool: Pool, engine: Engine, *, cut: float | None = None
    ) -> Iterator[Connection]:
        cut = cut or pool.cut
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            with (
                self._watchdog.limit(raw, cut) as is_cut,
                in_time(is_cut, statement=pool.statement, cut=cut),
                connection.begin(),
            ):
                yield connection

    # --- reading -------------------------------------------------------------------------------

    @contextmanager
    def read(self, *, urgent: bool = False) -> Iterator[Connection]:
        pool = self._intake if urgent else self._work
        with reading(), self._transaction(pool, pool.reading) as connection:
            yield connection

    @contextmanager
    def watch(self) -> Iterator[Callable[[], object]]:
        # The whole snapshot: a transaction that began earlier may commit after a later one.
        snapshot = text("SELECT pg_current_snapshot()::text")

        def version() -> object:
            with self.read() as connection:
                return connection.execute(snapshot).scalar_one()

        yield version

    # --- many processes ------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the server's time, counted on by our monotonic clock, which never jumps."""
        return datetime.fromtimestamp(time.monotonic() + self._offset, UTC)

    def look_at_clock(self, connection: Connection) -> datetime:
        self._measure(lambda: float(connection.exec_driver_sql(CLOCK).scalar_one()))
        return self.now()

    def _measure(self, ask: Callable[[], float]) -> None:
        """Set the offset by the middle of the round trip, unless that took too long."""
        before = time.monotonic()
        server_time = ask()
        after = time.monotonic()
        is_prompt = after - before <= PROMPT_SECONDS
        if is_prompt or not self._is_measured:
            self._offset = server_time - (before + after) / 2
            self._is_measured = is_prompt

    def is_served(self) -> bool:
        held = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = :space AND objid = :key"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with self.read() as connection:
            space, key = self._names.served
            named = {"space": space, "key": key}
            if connection.execute(held, named).scalar_one():
                return True
            return bool(connection.execute(leases(self.look_at_clock(connection))).scalar_one())

    def hint(self) -> None:
        if self._presence is not None:
            self._presence.hint()

    def listen(self, on_notify: Callable[[], None]) -> None:
        if self._presence is not None:
            self._presence.listen(on_notify)

    def _connect_alone(self) -> Any:
        """Return a connection with a session; raises CannotOpen unless it is to this database."""
        if self._direct is None:
            return connect_alone(self._intake.engine)
        raw = connect_alone(self._direct)
        with self._transaction(self._work, self._work.reading) as connection:
            here = tuple(connection.exec_driver_sql(IDENTITY).one())
        if raw.execute(IDENTITY).fetchone() == here:
            return raw
        raw.close()
        raise CannotOpen(
            f"RESULTSINK_DATABASE_DIRECT_URL and {self.name} lead to different databases: "
            "both must lead to the same one, of the same server."
        )

    # --- ending --------------------------------------------------------------------------------

    def close(self) -> None:
        if self._drain.is_closed:
            return
        self._writer.close()
        self._drain.close()
        if self._presence is not None:
            self._presence.close()
        self._dispose()

    def _dispose(self) -> None:
        self._watchdog.close()
        for engine in (self._intake.engine, self._work.engine, self._direct):
            if engine is not None:
                engine.dispose()
