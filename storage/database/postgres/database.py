"""Postgres through psycopg 3: pools for the intake and for work, timeouts, one clock for all.

Any number of processes on any number of machines. What may be lost is only what was not
acknowledged; what stands in each other's way is asked again (deadlocks, serialization failures).
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, TimeoutError

from storage import migrations
from storage.database.base import Database, Done, Work
from storage.database.errors import asks_again, is_cancelled, is_full, is_not_now, reading, reason
from storage.database.postgres.drain import Drain
from storage.database.postgres.presence import CLOCK, SERVED, Presence
from storage.database.postgres.watchdog import Watchdog
from storage.database.sqlite.files import kind_of
from storage.database.writer import Writer
from storage.errors import CannotOpen, CannotStore, DiskFull, NewerSchema, NoDatabase

T = TypeVar("T")

CONNECT_SECONDS = 2
PREPARE_SECONDS = 5.0
"""How long the login may take; and what is said on a new connection before it is used."""

IDLE_SECONDS = 5
PROMPT_SECONDS = 0.5
"""An answer that took longer does not tell the time: the clock would be off by half of that."""

TRIES = 5
"""How often a transaction is begun that others stand in the way of."""

MIGRATING = (20_261, 2)
"""The advisory lock of whoever changes the schema."""

MIGRATING_SECONDS = 10
"""How long one waits for another who does."""


class Pool:
    """An engine with its limits: `statement` and `lock` in seconds, `cut` for a whole transaction.

    A pool's connections are kept; one that is not had within `wait` seconds is not had.
    """

    def __init__(
        self,
        url: URL,
        watchdog: Watchdog,
        *,
        size: int,
        wait: float,
        statement: float,
        lock: float,
        cut: float,
    ) -> None:
        self.statement, self.cut = statement, cut
        options = {
            "statement_timeout": f"{statement * 1000:.0f}",
            "lock_timeout": f"{lock * 1000:.0f}",
            # whoever is frozen in a transaction must not hold up the others for longer
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS * 1000}",
        }
        self.engine = make_engine(
            url, options, watchdog, pool_size=size, max_overflow=0, pool_timeout=wait
        )
        # A snapshot for all statements of a read, and a promise to write nothing.
        self.reading = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )


class PostgresDatabase(Database):
    """An open Postgres database. `serve=True` also says so to everybody, until `close()`.

    Raises CannotOpen (or one of its kinds) with a sentence that says what to do; nothing is
    changed then: the schema is made by `upgrade` alone.
    """

    is_shared = True

    def __init__(self, url: str, *, serve: bool = False) -> None:
        self._url = postgres_url(url)
        self.name = shown_name(self._url)
        self._offset = 0.0
        self._is_measured = False
        self._drain = Drain()
        self._watchdog = watchdog = Watchdog()
        # The intake waits less than an answer may take, and never for what work holds.
        self._intake = Pool(self._url, watchdog, size=4, wait=1.0, statement=2.0, lock=1.0, cut=4.0)
        self._work = Pool(
            self._url, watchdog, size=12, wait=5.0, statement=10.0, lock=5.0, cut=15.0
        )
        self._presence: Presence | None = None
        try:
            self._look()
            if serve:
                self._presence = Presence(self._connect_alone, self._measure, self._watchdog.limit)
        except (DBAPIError, psycopg.Error) as error:
            self._dispose()
            raise refusal(self.name, error) from error
        except BaseException:
            self._dispose()
            raise
        self._writer = Writer(lambda work: self._run(self._intake, work))

    def _look(self) -> None:
        with self._transaction(self._work, self._work.engine) as connection:
            check_encoding(connection, self.name)
            check_schema(migrations.current(connection), self.name)
            self.look_at_clock(connection)

    # --- writing -------------------------------------------------------------------------------

    def write(self, work: Callable[[Connection], T], *, urgent: bool = False) -> T:
        return self._run(self._intake if urgent else self._work, work)

    def submit(self, work: Work, done: Done) -> None:
        self._writer.submit(work, done, urgent=True)

    def _run(self, pool: Pool, work: Callable[[Connection], T]) -> T:
        if self._presence is not None and not self._presence.is_held:
            raise CannotStore("The database is being copied, or its connection was just lost.")
        for attempt in range(1, TRIES + 1):
            try:
                with self._transaction(pool, pool.engine) as connection:
                    return work(connection)
            except (DBAPIError, TimeoutError) as error:
                if asks_again(error) and attempt < TRIES:
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
        with self._drain.passed(), engine.connect() as connection:
            raw = connection.connection.driver_connection
            with (
                self._watchdog.limit(raw, pool.cut) as is_cut,
                _in_time(pool, is_cut),
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
        # All of it, not the latest transaction alone: an earlier one may commit after a later one.
        snapshot = text("SELECT pg_current_snapshot()::text")

        def version() -> object:
            with self.read() as connection:
                return connection.execute(snapshot).scalar_one()

        yield version

    # --- many processes ------------------------------------------------------------------------

    def now(self) -> datetime:
        """The server's clock, by our monotonic one: ours may be wrong, and may jump."""
        return datetime.fromtimestamp(time.monotonic() + self._offset, UTC)

    def look_at_clock(self, connection: Connection) -> datetime:
        self._measure(lambda: float(connection.exec_driver_sql(CLOCK).scalar_one()))
        return self.now()

    def _measure(self, ask: Callable[[], float]) -> None:
        """By the middle of the round trip; one that a stall has drawn out changes nothing."""
        before = time.monotonic()
        told = ask()
        after = time.monotonic()
        is_prompt = after - before <= PROMPT_SECONDS
        if is_prompt or not self._is_measured:
            self._offset = told - (before + after) / 2
            self._is_measured = is_prompt

    def is_served(self) -> bool:
        held = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = :space AND objid = :key"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with self.read() as connection:
            named = {"space": SERVED[0], "key": SERVED[1]}
            return bool(connection.execute(held, named).scalar_one())

    def hint(self) -> None:
        if self._presence is not None:
            self._presence.hint()

    def listen(self, heard: Callable[[], None]) -> None:
        if self._presence is not None:
            self._presence.listen(heard)

    def _connect_alone(self) -> Any:
        """A connection of no pool, in autocommit."""
        connection = self._intake.engine.raw_connection()
        raw = connection.driver_connection
        connection.detach()
        assert raw is not None  # noqa: S101  it has just been connected
        raw.autocommit = True
        return raw

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
        self._intake.engine.dispose()
        self._work.engine.dispose()


@contextmanager
def _in_time(pool: Pool, is_cut: Callable[[], bool]) -> Iterator[None]:
    """Raise CannotStore that says so where a limit of ours ended what is done in the block."""
    began = time.monotonic()
    try:
        yield
    except DBAPIError as error:
        is_stopped = is_cancelled(error) and time.monotonic() - began >= pool.statement
        if not (is_cut() or is_stopped):
            raise
        limit = pool.cut if is_cut() else pool.statement
        raise CannotStore(
            f"The database cannot do it now: it took longer than {limit:g} s."
        ) from error


def postgres_url(url: str) -> URL:
    """What SQLAlchemy needs to connect; raises CannotOpen."""
    kind_of(url)
    parsed = make_url(url)
    if "@" in (parsed.host or ""):
        raise CannotOpen("The database URL has more than one @: write %40 for one in a password.")
    return parsed.set(drivername="postgresql+psycopg")


def shown_name(url: URL) -> str:
    """Enough of an address to know it by: no password, and no options."""
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return shown.render_as_string()


def upgrade(url: str) -> str | None:
    """Bring the schema to this version's, once, whoever else tries; returns what it was.

    Raises CannotOpen or NewerSchema; nothing is changed then.
    """
    parsed = postgres_url(url)
    options = {"statement_timeout": "0", "lock_timeout": f"{MIGRATING_SECONDS * 1000:.0f}"}
    watchdog = Watchdog()
    engine = make_engine(parsed, options, watchdog, pool_size=1)
    name = shown_name(parsed)
    try:
        with engine.begin() as connection:
            check_encoding(connection, name)
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, %s)", MIGRATING)
            before = migrations.current(connection)
            migrations.upgrade(connection)
            return before
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise CannotOpen(
                f"Somebody else is at work on {name}: another `db upgrade`, a `db copy`, or a long "
                "transaction. Try again when it has ended."
            ) from error
        raise refusal(name, error) from error
    finally:
        watchdog.close()
        engine.dispose()


def check_schema(revision: str | None, name: str) -> None:
    """Raise what says what to do, unless the schema is this version's."""
    if revision is None:
        raise NoDatabase(f"The database {name} has no tables yet: run `resultsink db upgrade`.")
    if revision < migrations.HEAD:
        raise CannotOpen(
            f"The database {name} has schema {revision}, and this version needs "
            f"{migrations.HEAD}: run `resultsink db upgrade`."
        )
    if revision > migrations.HEAD:
        raise NewerSchema(
            f"The database {name} has schema {revision}, which this version (schema "
            f"{migrations.HEAD}) does not know: install the newer resultsink again."
        )


def check_encoding(connection: Connection, name: str) -> None:
    """Raise CannotOpen unless the database takes whatever character a sender may write."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if _text(encoding) != "UTF8":
        raise CannotOpen(
            f"The database {name} has the encoding {_text(encoding)}: make one with UTF8, as "
            "`createdb -E UTF8 -T template0` does, for results hold any character."
        )


def _text(value: str | bytes) -> str:
    """Without an encoding (SQL_ASCII) psycopg tells bytes."""
    return value.decode() if isinstance(value, bytes) else value


def refusal(name: str, error: Exception) -> CannotOpen:
    """What to do about a server that does not let us in, or cannot be reached."""
    return CannotOpen(
        f"The database {name} cannot be opened: {reason(error)}. "
        "Look at RESULTSINK_DATABASE_URL, and whether the server runs."
    )


def make_engine(url: URL, options: dict[str, str], watchdog: Watchdog, **pool: Any) -> Engine:
    """A connection that falls silent before it is ready is cut off by `watchdog`.

    `options` are set when a connection is there: as a parameter of the start, PgBouncer would
    refuse or ignore them (https://www.pgbouncer.org/config.html#ignore_startup_parameters).
    """
    engine = create_engine(
        url,
        # error texts end up in logs, and parameters hold bodies
        hide_parameters=True,
        pool_use_lifo=True,
        use_native_hstore=False,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "client_encoding": "utf8",
            # a server's machine that is gone says nothing
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "application_name": "resultsink",
        },
        **pool,
    )

    @event.listens_for(engine, "connect", insert=True)  # before SQLAlchemy asks who is there
    def begin(raw: Any, _record: Any) -> None:
        watchdog.begin(raw, PREPARE_SECONDS)

    options = {"timezone": "UTC", "datestyle": "ISO", **options}

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: Any) -> None:
        calls = ", ".join(["set_config(%s, %s, false)"] * len(options))
        raw.execute(f"SELECT {calls}", [text for option in options.items() for text in option])
        # "acknowledged after COMMIT" must hold when the server's machine fails
        raw.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
        raw.commit()  # a rollback would undo it
        watchdog.end(raw)

    @event.listens_for(engine, "checkout")
    def obey(raw: Any, *_: Any) -> None:
        if raw.read_only is False:  # left by a read; the server says whether one may write now
            raw.read_only = None

    return engine
