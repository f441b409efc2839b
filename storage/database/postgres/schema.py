"""The schema of a Postgres database that holds our tables; `db upgrade` alone changes it."""

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from storage import migrations
from storage.database.postgres import moving
from storage.database.postgres.catalog import may_create_schemas, rights_in, tables_of
from storage.database.postgres.engine import (
    LONG_IDLE,
    check_encoding,
    make_engine,
    postgres_url,
    refusal,
    shown_name,
)
from storage.database.postgres.names import Names
from storage.database.postgres.watchdog import Watchdog
from storage.encryption import Vault
from storage.errors import CannotOpen, NewerSchema, NoDatabase
from storage.migrations.ownership import are_ours

MIGRATING_SECONDS = 10
"""How long an upgrade waits for the lock."""


def upgrade(url: str, schema: str, vault: Vault) -> str | None:
    """Bring the tables to this version's, under a lock; returns the revision that they had.

    Raises CannotOpen or one of its kinds; nothing is changed then.
    """
    parsed = postgres_url(url)
    options = {
        "statement_timeout": "0",
        "lock_timeout": f"{MIGRATING_SECONDS * 1000:.0f}",
        "idle_in_transaction_session_timeout": LONG_IDLE,
    }
    watchdog = Watchdog()
    engine = make_engine(parsed, options, watchdog, schema, pool_size=1)
    name = shown_name(parsed)
    try:
        with engine.begin() as connection:
            check_encoding(connection, name)
            _take_over(connection, schema, vault, name)
            return migrate(connection, schema, name)
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


def migrate(connection: Connection, schema: str, name: str) -> str | None:
    """Do so in the caller's transaction, and wait for the lock; returns the earlier revision."""
    _lock(connection, schema)
    before = revision(connection, schema, name)
    if before is None:
        _make(connection, schema, name)
    quoted = connection.dialect.identifier_preparer.quote_schema(schema)
    connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
    migrations.upgrade(connection, schema)
    return before


def _take_over(connection: Connection, schema: str, vault: Vault, name: str) -> None:
    """Move the tables of an earlier version into `schema`, where that holds none yet."""
    _lock(connection, schema)
    if revision(connection, schema, name) is not None:
        return
    earlier = moving.find(connection)
    if earlier is not None:
        _make(connection, schema, name)
        moving.move(connection, earlier, schema, vault, name)


def _lock(connection: Connection, schema: str) -> None:
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, %s)", Names(schema).migrating)


def _make(connection: Connection, schema: str, name: str) -> None:
    """Make the schema, unless it is there and may be used; raises CannotOpen with what to grant."""
    rights = rights_in(connection, schema)
    user = connection.exec_driver_sql("SELECT quote_ident(current_user)").scalar()
    quoted = connection.dialect.identifier_preparer.quote_schema(schema)
    if rights is not None and not all(rights):
        raise CannotOpen(
            f"The user {user} may not make tables in the schema {schema} of {name}: have an "
            f"administrator run GRANT USAGE, CREATE ON SCHEMA {quoted} TO {user}."
        )
    if rights is None and not may_create_schemas(connection):
        raise CannotOpen(
            f"The user {user} may not make the schema {schema} in {name}: have an administrator "
            f"run CREATE SCHEMA {quoted} AUTHORIZATION {user}, or name an empty schema that it "
            "may use in RESULTSINK_DATABASE_SCHEMA."
        )
    if rights is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {quoted}")


def revision(connection: Connection, schema: str, name: str) -> str | None:
    """Return the revision of the tables in `schema`, None where it holds none or is not there.

    Raises CannotOpen for tables of another program.
    """
    found = tables_of(connection, schema)
    if found and not are_ours(found):
        raise CannotOpen(
            f"The schema {schema} of {name} holds tables of another program: name another schema "
            "in RESULTSINK_DATABASE_SCHEMA."
        )
    return migrations.current(connection, schema) if found else None


def check_revision(revision: str | None, schema: str, name: str) -> None:
    """Raise CannotOpen or a kind of it, with what to do, unless the tables are this version's."""
    if revision is None:
        raise NoDatabase(
            f"The database {name} has no tables in the schema {schema} yet: run "
            "`resultsink db upgrade`."
        )
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
