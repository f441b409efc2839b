"""Connections to Postgres: addresses, engines, pools with their limits, and refusals."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError

from storage.database.errors import is_read_only, reason
from storage.database.postgres import pooler
from storage.database.postgres.names import name_schema
from storage.database.postgres.spent import is_spent
from storage.database.postgres.watchdog import Watchdog
from storage.database.urls import kind_of, parsed
from storage.errors import CannotOpen

CONNECT_SECONDS = 2
PREPARE_SECONDS = 5.0
"""How long the login may take, and the setting up of a new connection."""

IDLE_SECONDS = 5

OPENING_SECONDS = 60
"""How long a process may take, or be idle, in a transaction that opens or upgrades a database."""

LONG_IDLE = f"{OPENING_SECONDS * 1000}"
"""The limit of Postgres for being idle in such a transaction, in milliseconds."""


class Pool:
    """An engine with limits in seconds: per statement, per lock, and `cut` for a transaction.

    A pool keeps its connections; a caller that gets none within `wait` seconds gets an error.
    """

    def __init__(
        self,
        url: URL,
        watchdog: Watchdog,
        schema: str,
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
            # a process that is frozen within a transaction must not block the others for longer
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS * 1000}",
        }
        self.engine = make_engine(
            url, options, watchdog, schema, pool_size=size, max_overflow=0, pool_timeout=wait
        )
        # One snapshot for all statements of a read; the server refuses writes.
        self.reading = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )


def postgres_url(url: str) -> URL:
    """Return the URL as SQLAlchemy needs it; raises CannotOpen.

    Of several servers the one is meant that takes writes, unless the URL says otherwise.
    """
    if kind_of(url) != "postgresql":
        raise CannotOpen(
            "The database URL is not one of Postgres: write postgresql://USER@HOST/NAME."
        )
    found = parsed(url)
    if "@" in (found.host or ""):
        raise CannotOpen("The database URL has more than one @: write %40 for one in a password.")
    if len(_servers(found)) > 1 and "target_session_attrs" not in found.query:
        found = found.update_query_dict({"target_session_attrs": "read-write"})
    return found.set(drivername="postgresql+psycopg")


def shown_name(url: URL) -> str:
    """Return the address without password and options."""
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    if len(servers := _servers(url)) < 2:
        return shown.render_as_string()
    user, _, name = shown.set(host="HOST", port=None).render_as_string().rpartition("HOST")
    return f"{user}{','.join(servers)}{name}"


def _servers(url: URL) -> list[str]:
    """Return the servers in the query of the URL, each as HOST or HOST:PORT."""
    hosts, ports = (_listed(url.query.get(name, ())) for name in ("host", "port"))
    pairs = zip_longest(hosts, ports if len(ports) > 1 else ports * len(hosts), fillvalue="")
    shown = ((f"[{host}]" if ":" in host and port else host, port) for host, port in pairs)
    return [f"{host}:{port}" if port else host for host, port in shown]


def _listed(value: str | Sequence[str]) -> list[str]:
    return value.split(",") if isinstance(value, str) else list(value)


def check_encoding(connection: Connection, name: str) -> None:
    """Raise CannotOpen unless the database takes every character that a sender may write."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if _text(encoding) != "UTF8":
        raise CannotOpen(
            f"The database {name} has the encoding {_text(encoding)}: make one with UTF8, as "
            "`createdb -E UTF8 -T template0` does, for results hold any character."
        )


def _text(value: str | bytes) -> str:
    """Decode what psycopg returns as bytes where the server has no encoding (SQL_ASCII)."""
    return value.decode() if isinstance(value, bytes) else value


def refusal(name: str, error: Exception) -> CannotOpen:
    """Return the error for a server that refuses the login, or cannot be reached."""
    if pooler.pools_statements(error):
        return CannotOpen(
            f"The pooler at {name} pools single statements, and a transaction needs several: set "
            "pool_mode = transaction there, or name the server itself in RESULTSINK_DATABASE_URL."
        )
    return CannotOpen(
        f"The database {name} cannot be opened: {reason(error)}. "
        "Look at RESULTSINK_DATABASE_URL, and whether the server runs."
    )


_CONNECT_ARGS = {
    "connect_timeout": CONNECT_SECONDS,
    "client_encoding": "utf8",
    # a server whose machine is gone sends nothing
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "resultsink",
}


def make_engine(
    url: URL, options: dict[str, str], watchdog: Watchdog, schema: str, **pool: Any
) -> Engine:
    """Return an engine whose tables are in `schema`, which it writes before their names.

    A connection that hangs before it is ready is cut off by `watchdog`.

    `options` are set once a connection is there, or in each transaction through a pooler: as
    startup parameters, PgBouncer would refuse or ignore them
    (https://www.pgbouncer.org/config.html#ignore_startup_parameters).
    """
    engine = create_engine(
        url,
        # error texts end up in logs, and parameters hold bodies
        hide_parameters=True,
        pool_use_lifo=True,
        use_native_hstore=False,
        connect_args=_CONNECT_ARGS,
        **pool,
    )
    name_schema(engine, schema)

    @event.listens_for(engine, "connect", insert=True)  # before SQLAlchemy asks for the version
    def begin(raw: Any, _record: Any) -> None:
        watchdog.begin(raw, PREPARE_SECONDS)

    # without a search path no name can be found in anybody else's schema
    options = {"search_path": "", **options}
    in_session, in_transaction = (
        pooler.settings(options, is_local=is_local) for is_local in (False, True)
    )

    def begin_pooled(connection: Connection) -> None:
        if not pooler.has_session(connection.connection.driver_connection):
            connection.exec_driver_sql(in_transaction)

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: Any) -> None:
        pooler.set_up(raw, in_session)
        if not pooler.has_session(raw):  # to listen costs each statement, so it is not done before
            event.listen(engine, "begin", begin_pooled)
        watchdog.end(raw)

    @event.listens_for(engine, "checkout")
    def obey(raw: Any, record: Any, _proxy: Any) -> None:
        if is_spent(raw, record.info):
            raise DisconnectionError  # another connection is made
        if raw.read_only is False:  # left by a read; now the server decides
            raw.read_only = None

    @event.listens_for(engine, "handle_error")
    def leave_read_only(context: ExceptionContext) -> None:
        if is_read_only(context.original_exception):
            context.is_disconnect = True  # and all others of the pool are made anew

    return engine
