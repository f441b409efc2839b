"""The database under the store: SQLite or Postgres.

Code that differs between the two stands here, in `recording` and in `copying`. Elsewhere a column
may have a type for each, and a statement a hint that only one of them reads.

On SQLite one process serves a file, and one of its threads writes. On Postgres any number of
processes serve a database.
"""

from storage.database import probe
from storage.database.advisory_locks import is_alone, lock_name
from storage.database.base import Database, insert, now
from storage.database.errors import is_not_now
from storage.database.postgres.names import DEFAULT_SCHEMA
from storage.database.sqlite.database import SqliteDatabase
from storage.database.statements import as_dicts, statement
from storage.database.urls import kind_of
from storage.encryption import Vault
from storage.errors import CannotOpen

__all__ = [
    "DEFAULT_SCHEMA",
    "Database",
    "SqliteDatabase",
    "as_dicts",
    "insert",
    "is_alone",
    "is_not_now",
    "kind_of",
    "lock_name",
    "need_psycopg",
    "now",
    "open_database",
    "probe",
    "statement",
    "upgrade_server",
]


def open_database(
    url: str,
    *,
    schema: str = DEFAULT_SCHEMA,
    serve: bool = False,
    direct_url: str | None = None,
) -> Database:
    """Open the database at `url`; `serve` claims a file, or joins the servers of a database.

    On Postgres its tables are in `schema`. `direct_url` leads to a server past the pooler that
    `url` may name. Raises CannotOpen.
    """
    if kind_of(url) == "sqlite":
        if direct_url is not None:
            raise CannotOpen(
                "RESULTSINK_DATABASE_DIRECT_URL is for a Postgres behind a pooler: leave it unset."
            )
        return SqliteDatabase(url, serve=serve)
    need_psycopg()
    from storage.database.postgres.database import PostgresDatabase

    return PostgresDatabase(url, schema=schema, serve=serve, direct_url=direct_url)


def upgrade_server(url: str, schema: str, vault: Vault) -> str | None:
    """Bring a Postgres database to this version's tables; returns the revision that it had.

    Tables of an earlier version are moved into `schema` if `vault` opens them.
    """
    need_psycopg()
    from storage.database.postgres.schema import upgrade

    return upgrade(url, schema, vault)


def need_psycopg() -> None:
    """Raise CannotOpen, with what to install, where the driver is missing."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise CannotOpen(
            "Postgres needs the extra of that name: pip install 'resultsink[postgres]'."
        ) from error
