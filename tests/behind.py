"""Reads, changes and damage in a database of either kind, behind the store's back."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import Buffer, Loader
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from storage import DEFAULT_SCHEMA
from tests.databases import is_postgres


class _Moment(Loader):
    def load(self, data: Buffer) -> str:
        text, _, _ = bytes(data).decode().partition("+")
        whole, _, fraction = text.partition(".")
        return f"{whole}.{fraction:0<6}"


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """Connect as another program, for which moments and documents are text as on SQLite."""
    options = "-c timezone=UTC"
    with closing(
        psycopg.connect(url, autocommit=True, row_factory=dict_row, options=options)
    ) as connection:
        for name in ("json", "jsonb"):
            connection.adapters.register_loader(name, TextLoader)
        connection.adapters.register_loader("timestamptz", _Moment)
        yield connection


def execute(url: str, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Run a statement on another connection, and return its rows; `?` or `?1` are the values."""
    if not is_postgres(url):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as file:
            file.row_factory = sqlite3.Row
            return [dict(row) for row in file.execute(statement, values)]
    query, given = _for_psycopg(statement, values)
    with _connected(url) as connection:
        cursor = connection.execute(query, given)
        return cursor.fetchall() if cursor.description else []


def _for_psycopg(
    statement: str, values: Sequence[Any]
) -> tuple[str, Sequence[Any] | Mapping[str, Any] | None]:
    if not values:
        return statement, None
    query = re.sub(r"\?(\d+)", r"%(v\1)s", statement.replace("%", "%%"))
    if query.count("%(v"):
        numbered = {f"v{number}": value for number, value in enumerate(values, start=1)}
        return query, numbered
    return query.replace("?", "%s"), values


def tables(url: str) -> list[str]:
    """Return the names of all tables."""
    listed = (
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()"
        if is_postgres(url)
        else "SELECT name FROM sqlite_master WHERE type = 'table'"
    )
    return [row["name"] for row in execute(url, listed)]


def everything(url: str) -> bytes:
    """Return all bytes at rest, as nearly as can be: the files, or all columns as they are."""
    if not is_postgres(url):
        path = Path(url.removeprefix("sqlite:///"))
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    found: list[Buffer] = []
    with _connected(url) as connection, connection.cursor() as cursor:
        for table in tables(url):
            with cursor.copy(f"COPY {table} TO STDOUT (FORMAT binary)".encode()) as copy:
                found += copy
    return b"".join(found)


def count_updates(url: str, table: str, *, when: str) -> None:
    """Have the table `updates_of_...` get a row for each row of `table` that is changed."""
    # the trigger runs with the product's search path, which is empty
    written = f"{DEFAULT_SCHEMA}." * is_postgres(url) + f"updates_of_{table}"
    execute(url, f"CREATE TABLE {written} (id bigint)")
    note = f"INSERT INTO {written} VALUES (new.id);"  # noqa: S608  names of our own
    trigger = f"CREATE TRIGGER note_updates AFTER UPDATE ON {table}"
    if is_postgres(url):
        body = f"BEGIN {note} RETURN NULL; END"
        execute(url, f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
        execute(url, f"{trigger} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION note()")
    else:
        execute(url, f"{trigger} WHEN {when} BEGIN {note} END")


class Lock:
    """A transaction of another program that keeps everybody from writing, until `release`."""

    def __init__(self, url: str) -> None:
        self._connection: psycopg.Connection | sqlite3.Connection
        if is_postgres(url):
            self._connection = psycopg.connect(url)
            names = ", ".join(tables(url))
            statement = f"LOCK TABLE {names} IN EXCLUSIVE MODE"
            self._connection.execute(statement)
        else:
            self._connection = sqlite3.connect(
                url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
            )
            self._connection.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        """End it, having changed nothing; once more does no harm."""
        self._connection.rollback()

    def close(self) -> None:
        self.release()
        self._connection.close()


@contextmanager
def broken(url: str, table: str) -> Iterator[None]:
    """Make a table unreadable: within the block the catalogue is wrong about where it is."""
    with _broken_on_server(url, table) if is_postgres(url) else _broken_in_file(url, table):
        yield


@contextmanager
def _broken_on_server(url: str, table: str) -> Iterator[None]:
    """Name a file that is not there."""
    move = (
        "UPDATE pg_class SET relfilenode = (relfilenode::bigint {} 1000000)::oid"
        " WHERE oid = ?::regclass"
    )
    execute(url, move.format("+"), table)
    try:
        yield
    finally:
        execute(url, move.format("-"), table)


@contextmanager
def _broken_in_file(url: str, table: str) -> Iterator[None]:
    """Have it and its indexes begin where others do."""
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    query = "SELECT name, type, rootpage FROM sqlite_schema WHERE rootpage AND (tbl_name = ?) = ?"
    mine = other.execute(query, (table, True)).fetchall()
    strange = {"table": "index", "index": "table"}
    pages = {
        kind: [row[2] for row in other.execute(query, (table, False)) if row[1] == kind]
        for kind in strange
    }

    def begin_at(begins: dict[str, int]) -> None:
        other.execute("PRAGMA writable_schema = ON")
        for name, page in begins.items():
            other.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (page, name))
        (version,) = other.execute("PRAGMA schema_version").fetchone()
        other.execute(f"PRAGMA schema_version = {version + 1}")

    begin_at({name: pages[strange[kind]].pop() for name, kind, _ in mine})
    try:
        yield
    finally:
        begin_at({name: page for name, _, page in mine})
        other.close()
