"""A SQLite file as a side of a copy, under the lock of its server."""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import DBAPIError

from storage import migrations
from storage.copying.sides import Row, Side, is_json
from storage.database.sqlite import files
from storage.database.sqlite.database import make_engine
from storage.database.sqlite.recognition import look
from storage.errors import AlreadyServed, CopyFailed

DIALECT = sqlite_dialect()

Convert = Callable[[Any], Any]


class SqliteSide(Side):
    """The file that `url` names, which need not be there yet."""

    def __init__(self, url: str) -> None:
        self.path = files.sqlite_path(url)
        self.name = str(self.path)
        self._lock: int | None = None

    @property
    def identity(self) -> object:
        return os.path.realpath(self.path)

    @property
    def key_path(self) -> Path:
        """The path of its key, unless keys are given."""
        return self.path.with_suffix(".key")

    def revision(self) -> str | None:
        return look(self.path)

    def claim(self) -> bool:
        try:
            self._lock = files.claim(self.path)
        except AlreadyServed:
            return False
        return True

    @contextmanager
    def transaction(self, tables: Sequence[Table], *, fills: bool) -> Iterator[None]:
        """The write lock is taken on either side, since commands write without serving."""
        del tables
        engine = make_engine(self.path, writes=True)
        try:
            with engine.connect() as self.connection:
                raw = self._raw()
                raw.text_factory = _text
                raw.execute("PRAGMA foreign_keys = OFF")  # checked at the end, in `settle`
                with self.connection.begin():
                    if fills:
                        migrations.upgrade(self.connection)
                    yield
        except DBAPIError as error:
            raise files.refusal(self.path, error.orig) from error
        finally:
            engine.dispose()

    def rows(self, table: Table) -> Generator[Row]:
        statement = select(table).order_by(*table.primary_key).compile(dialect=DIALECT)
        typed = _typed(table, lambda kind: kind.result_processor(DIALECT, None))
        try:
            for found in self._raw().execute(str(statement)):
                yield _through(typed, found)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def insert(self, table: Table, rows: Iterable[Row]) -> None:
        statement = insert(table).compile(dialect=DIALECT)
        typed = _typed(table, lambda kind: kind.bind_processor(DIALECT))
        try:
            self._raw().executemany(str(statement), (_through(typed, row) for row in rows))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def settle(self, tables: Sequence[Table]) -> None:
        """Check foreign keys, which were off; SQLite gives ids above the highest by itself."""
        del tables
        strays = self.connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if strays:
            raise CopyFailed(f"The source holds rows without their parents: {strays[:3]}.")

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _failed(self, error: Exception) -> CopyFailed:
        return CopyFailed(f"The copy ended at {self.name}, and nothing of it was kept: {error}.")

    def _raw(self) -> sqlite3.Connection:
        raw = self.connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the only driver there is
        return raw


def _text(raw: bytes) -> str:
    """Decode UTF-8; other bytes become lone surrogates, which are cleaned like all others."""
    return raw.decode("utf-8", "surrogateescape")


def _typed(table: Table, made: Callable[[Any], Convert | None]) -> list[tuple[int, Convert]]:
    """Return the places and converters of the columns whose type differs from the driver's."""
    kinds = [None if is_json(c) else c.type.dialect_impl(DIALECT) for c in table.columns]
    return [
        (at, convert)
        for at, kind in enumerate(kinds)
        if kind is not None and (convert := made(kind)) is not None
    ]


def _through(typed: list[tuple[int, Convert]], given: Row) -> Row:
    row = list(given)
    for at, convert in typed:
        row[at] = convert(row[at])
    return row
