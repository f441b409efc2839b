"""New databases, of both kinds, for receivers and yardsticks alike.

with databases("postgres") as new_database, new_database() as database:
    ... database.url, database.settings() ...
    database.number("SELECT count(*) FROM events")
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

import storage
from benchmarks.postgres import cluster
from benchmarks.processes import cpu_seconds

KINDS = ("sqlite", "postgres")
NAMES = {"sqlite": "SQLite", "postgres": "Postgres"}


@dataclass(frozen=True)
class Database:
    """One database, and a folder for what stands beside it."""

    kind: str
    url: str
    folder: Path
    key: str = field(default_factory=storage.new_key, repr=False)

    @property
    def path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.url.removeprefix("sqlite:///"))

    def settings(self) -> dict[str, str]:
        """Return the settings that make a receiver use this database."""
        keys = {} if self.kind == "sqlite" else {"RESULTSINK_ENCRYPTION_KEYS": self.key}
        return {"RESULTSINK_DATABASE_URL": self.url, **keys}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows that a connection of its own reads."""
        if self.kind == "sqlite":
            address = f"file:{self.path}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
                return connection.execute(query).fetchall()
        with psycopg.connect(self.url, autocommit=True) as driver:
            return driver.execute(query.encode()).fetchall()

    def number(self, query: str) -> int:
        """The one number that a query gives, 0 where it is null."""
        return int(self.rows(query)[0][0] or 0)

    def cpu(self) -> float:
        """The seconds of processor time that its server has used, in the processes that it has now.

        A file has none.
        """
        if self.kind == "sqlite":
            return 0.0
        pids = self.rows("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        return sum(map(cpu_seconds, (pid for (pid,) in pids)))

    def change(self, *statements: str) -> None:
        """Run statements in one transaction, from outside."""
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                for statement in statements:
                    connection.execute(statement)
            return
        with psycopg.connect(self.url) as driver:
            for statement in statements:
                driver.execute(statement.encode())


NewDatabase = Callable[[], AbstractContextManager[Database]]


@contextmanager
def databases(kind: str) -> Iterator[NewDatabase]:
    """Give what makes new databases of a kind; a Postgres runs as long as the block."""
    if kind == "sqlite":
        yield _sqlite
        return
    with cluster() as server:

        @contextmanager
        def make() -> Iterator[Database]:
            with server.database() as url, _folder() as folder:
                yield Database(kind, url, folder)

        yield make


@contextmanager
def _sqlite() -> Iterator[Database]:
    with _folder() as folder:
        yield Database("sqlite", f"sqlite:///{folder}/resultsink.db", folder)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="resultsink-bench-") as name:
        yield Path(name)
