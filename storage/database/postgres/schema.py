"""The schema of a Postgres database, which `db upgrade` alone changes."""

import psycopg
from sqlalchemy.exc import DBAPIError

from storage import migrations
from storage.database.postgres.engine import (
    check_encoding,
    make_engine,
    postgres_url,
    refusal,
    shown_name,
)
from storage.database.postgres.watchdog import Watchdog
from storage.errors import CannotOpen, NewerSchema, NoDatabase

MIGRATING = (20_261, 2)
"""The advisory lock under which the schema is changed."""

MIGRATING_SECONDS = 10
"""How long an upgrade waits for that lock."""


def upgrade(url: str) -> str | None:
    """Bring the schema to this version's, under a lock; returns the revision that it had.

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
    """Raise CannotOpen or a kind of it, with what to do, unless the schema is this version's."""
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
