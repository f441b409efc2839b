"""The database under the store. Which of the two it is matters here, in `recording` and `copying`.

Elsewhere at most a column has a type for each, and a statement a hint that only one of them reads.

On SQLite one process serves a file, and one thread writes. On Postgres any number of processes do.
"""

from storage.database.advisory_locks import is_alone, take_turns
from storage.database.base import Database, insert, now
from storage.database.errors import is_not_now
from storage.database.sqlite.database import SqliteDatabase
from storage.database.sqlite.files import kind_of
from storage.database.statements import as_dicts, statement
from storage.errors import CannotOpen

__all__ = [
    "Database",
    "SqliteDatabase",
    "as_dicts",
    "insert",
    "is_alone",
    "is_not_now",
    "kind_of",
    "need_psycopg",
    "now",
    "open_database",
    "statement",
    "take_turns",
    "upgrade_server",
]


def open_database(url: str, *, serve: bool = False) -> Database:
    """Open what `url` names; `serve` claims it, or joins those who serve it. Raises CannotOpen."""
    if kind_of(url) == "sqlite":
        return SqliteDatabase(url, serve=serve)
    need_psycopg()
    from storage.database.postgres.database import PostgresDatabase

    return PostgresDatabase(url, serve=serve)


def upgrade_server(url: str) -> str | None:
    """Bring the schema of a Postgres database to this version's; returns what it was."""
    need_psycopg()
    from storage.database.postgres.database import upgrade

    return upgrade(url)


def need_psycopg() -> None:
    """Say what to install where the driver is missing; raises CannotOpen."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise CannotOpen(
            "Postgres needs the extra of that name: pip install 'resultsink[postgres]'."
        ) from error
