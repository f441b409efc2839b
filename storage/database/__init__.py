"""The database under the store. Only here, in `recording` and in `copying` is the dialect known.

On SQLite one process serves a file, and one thread writes. On Postgres any number of processes do.
"""

from storage.database.base import Database, insert, now
from storage.database.faults import is_not_now
from storage.database.files import kind_of
from storage.database.sqlite import SqliteDatabase
from storage.database.turns import is_alone, take_turns

__all__ = [
    "Database",
    "SqliteDatabase",
    "insert",
    "is_alone",
    "is_not_now",
    "kind_of",
    "now",
    "open_database",
    "take_turns",
]


def open_database(url: str, *, serve: bool = False) -> Database:
    """Open what `url` names; `serve` claims it, or joins those who serve it. Raises CannotOpen."""
    if kind_of(url) == "sqlite":
        return SqliteDatabase(url, serve=serve)
    from storage.database.postgres import PostgresDatabase  # an extra: loaded where it is needed

    return PostgresDatabase(url, serve=serve)
