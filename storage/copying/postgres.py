"""A Postgres database as a side of a copy: its servers' lock taken alone, and rows by COPY."""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy import Select, String, Table, false, select
from sqlalchemy.exc import DBAPIError

from storage.copying.sides import Row, Side, kind
from storage.database.errors import reason
from storage.database.postgres.engine import (
    check_encoding,
    make_engine,
    postgres_url,
    shown_name,
)
from storage.database.postgres.lease import leases
from storage.database.postgres.names import Names
from storage.database.postgres.presence import CLOCK
from storage.database.postgres.schema import migrate, revision
from storage.database.postgres.sessions import IDENTITY
from storage.database.postgres.watchdog import Watchdog
from storage.errors import CannotOpen, CopyFailed

OPTIONS = {
    "timezone": "UTC",
    "lock_timeout": "10000",
    # A copy may take long, and one side waits while the other works.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

NO_LIMIT = (
    "SELECT set_config('transaction_timeout', '0', true)"
    " WHERE current_setting('transaction_timeout', true) IS NOT NULL"
)
"""Takes the limit of a whole transaction away, which only Postgres 17 and later have."""

SILENT = logging.NullHandler()


class PostgresSide(Side):
    """The database that `url` names, connected."""

    def __init__(self, url: str, schema: str) -> None:
        self._names = Names(schema)
        # Its warnings about a failed copy are raised too, as one sentence.
        logging.getLogger("psycopg").addHandler(SILENT)
        parsed = postgres_url(url)
        self.name = shown_name(parsed)
        with ExitStack() as stack:
            watchdog = stack.enter_context(closing(Watchdog()))
            engine = make_engine(parsed, OPTIONS, watchdog, schema, pool_size=1, max_overflow=0)
            stack.callback(engine.dispose)
            with self._looking():
                self.connection = stack.enter_context(engine.connect())
                check_encoding(self.connection, self.name)
                self._identity = self._one(IDENTITY)
                self.connection.rollback()
            self._has_tables = False  # until `revision` finds some
            self._opened = stack.pop_all()

    @property
    def identity(self) -> object:
        return self._identity

    def revision(self) -> str | None:
        with self._looking(), self.connection.begin():
            found = revision(self.connection, self._names.schema, self.name)
        self._has_tables = found is not None
        return found

    def claim(self) -> bool:
        """Begin the transaction of the copy, and take the servers' lock alone in it."""
        with self._looking():
            self._begun = self.connection.begin()
            self.connection.exec_driver_sql(NO_LIMIT)
            lock = "SELECT pg_try_advisory_xact_lock(%s, %s)"
            if not self._one(lock, self._names.served)[0]:
                return False
            return not (self._has_tables and self._is_leased())

    def _is_leased(self) -> bool:
        """Return True if a process serves behind a pooler."""
        moment = datetime.fromtimestamp(self._one(CLOCK)[0], UTC)
        return bool(self.connection.execute(leases(moment)).scalar_one())

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Raise CannotOpen, with what to do, for errors before anything is copied."""
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            raise CannotOpen(
                f"The database {self.name} cannot be opened: {reason(error)}. "
                "Look at its URL, at what its user may do, and whether the server runs."
            ) from error

    @contextmanager
    def transaction(self, tables: Sequence[Table], *, fills: bool) -> Iterator[None]:
        """The tables are locked, since commands write without serving."""
        try:
            with self._begun:
                if fills:
                    migrate(self.connection, self._names.schema, self.name)
                names = sql.SQL(", ").join(self._named(table) for table in tables)
                mode = sql.SQL("EXCLUSIVE" if fills else "SHARE")
                self._raw().execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(names, mode))
                yield
        except (DBAPIError, psycopg.Error) as error:
            raise self._failed(error) from error

    def rows(self, table: Table) -> Generator[Row]:
        # Text in the order of its bytes, as in SQLite, whatever the server's collation.
        order = [
            column.collate("C") if isinstance(kind(column), String) else column
            for column in table.primary_key
        ]
        query = self._text(select(table).order_by(*order))
        with self._copying(table, f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()) as copy:
            yield from copy.rows()

    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            self._named(table),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
        )
        with self._copying(table, statement) as copy:
            for row in rows:
                copy.write_row(row)

    def _failed(self, error: Exception) -> CopyFailed:
        said = reason(error)
        return CopyFailed(f"The copy ended at {self.name}, and nothing of it was kept: {said}.")

    @contextmanager
    def _copying(self, table: Table, statement: sql.Composed | bytes) -> Iterator[psycopg.Copy]:
        try:
            with self._raw().cursor() as cursor:
                set_json_loads(_as_text, cursor)
                set_json_dumps(str.encode, cursor)
                cursor.execute(self._text(select(table).where(false())).encode())
                types = [column.type_code for column in cursor.description or ()]
                with cursor.copy(statement) as copy:
                    copy.set_types(types)
                    yield copy
        except psycopg.Error as error:
            raise self._failed(error) from error

    def settle(self, tables: Sequence[Table]) -> None:
        """Set the sequences of the ids, which COPY does not, and have the planner count anew."""
        for table in tables:
            name = self._named(table)
            if (column := table.autoincrement_column) is not None:
                self._raw().execute(
                    sql.SQL(
                        "SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}"
                    ).format(
                        sql.Literal(name.as_string()),
                        sql.Literal(column.name),
                        sql.Identifier(column.name),
                        name,
                    )
                )
            self._raw().execute(sql.SQL("ANALYZE {}").format(name))

    def close(self) -> None:
        self._opened.close()

    def _named(self, table: Table) -> sql.Identifier:
        return sql.Identifier(self._names.schema, table.name)

    def _text(self, statement: Select[Any]) -> str:
        return str(statement.compile(dialect=self.connection.dialect))

    def _one(self, statement: str, given: Sequence[Any] = ()) -> Any:
        return self.connection.exec_driver_sql(statement, tuple(given)).one()

    def _raw(self) -> psycopg.Connection[Any]:
        raw = self.connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)  # noqa: S101  the only driver there is
        return raw


def _as_text(raw: str | bytes) -> str:
    return raw if isinstance(raw, str) else raw.decode()
