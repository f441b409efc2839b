"""Tables of earlier versions, which stood among everybody's, moved into the schema of their own."""

from time import monotonic, sleep

from sqlalchemy import Connection

from storage import migrations
from storage.database.postgres.catalog import may_change, tables_of
from storage.encryption import CANARY, Vault
from storage.errors import AlreadyServed, CannotOpen, WrongKey
from storage.migrations.ownership import are_ours

SERVED_BEFORE = (20_261, 1)
"""The advisory lock that all servers of those versions share."""

STOPPING_SECONDS = 3.0
"""How long that lock is waited for: Postgres frees it a moment after a server has ended."""

TABLES = {
    "0001": (
        "alembic_version",
        "attempts",
        "batches",
        "deliveries",
        "endpoints",
        "events",
        "jobs",
        "meta",
        "quarantine",
        "results",
        "runs",
        "secrets",
        "source_state",
    ),
    "0002": ("tokens",),
    "0003": ("paces",),
    "0007": ("submissions", "submission_tasks", "idempotency_keys"),
}
"""The tables that those versions made, by revision: of another name, a table is somebody else's."""


def find(connection: Connection) -> str | None:
    """Return the schema where an earlier version has made its tables, or None."""
    connection.exec_driver_sql("SET LOCAL search_path TO DEFAULT")
    searched = connection.exec_driver_sql("SELECT unnest(current_schemas(false))").scalars().all()
    return next((each for each in searched if are_ours(tables_of(connection, each))), None)


def move(connection: Connection, before: str, schema: str, vault: Vault, name: str) -> None:
    """Move the tables, with their indexes and sequences, from `before` into `schema`.

    Raises CannotOpen or one of its kinds where they are another installation's, served, or cannot
    be moved by this user.
    """
    _refuse_another(connection, before, vault, name)
    if not _outlasts_servers(connection):
        raise AlreadyServed(
            f"An earlier version serves {name}, and its tables are to move from the schema "
            f"{before} to {schema}: stop every `resultsink serve`, then run `db upgrade` again."
        )
    _refuse_without_rights(connection, before, name)
    quote = connection.dialect.identifier_preparer.quote_schema
    for table in _tables(connection, before):
        connection.exec_driver_sql(
            f"ALTER TABLE {quote(before)}.{table} SET SCHEMA {quote(schema)}"
        )


def _outlasts_servers(connection: Connection) -> bool:
    """Return True once nobody serves, and none can begin; False if somebody goes on serving."""
    deadline = monotonic() + STOPPING_SECONDS
    lock = "SELECT pg_try_advisory_xact_lock(%s, %s)"
    while not connection.exec_driver_sql(lock, SERVED_BEFORE).scalar():
        if monotonic() > deadline:
            return False
        sleep(0.1)
    return True


def _tables(connection: Connection, before: str) -> list[str]:
    revision = migrations.current(connection, before) or ""
    return [table for made, tables in TABLES.items() if made <= revision for table in tables]


def _refuse_another(connection: Connection, before: str, vault: Vault, name: str) -> None:
    place = connection.dialect.identifier_preparer.quote_schema(before)
    canary = connection.exec_driver_sql(
        f"SELECT value FROM {place}.meta WHERE key = 'canary'"  # noqa: S608  a quoted name
    ).scalar()
    try:
        is_ours = canary is None or vault.decrypt(canary.encode()) == CANARY
    except WrongKey:
        is_ours = False
    if not is_ours:
        raise WrongKey(
            f"The schema {before} of {name} holds tables of an earlier resultsink that was made "
            "with another key: give that key in RESULTSINK_ENCRYPTION_KEYS to take them over; if "
            "they are another installation's, upgrade that one first."
        )


def _refuse_without_rights(connection: Connection, before: str, name: str) -> None:
    if not all(may_change(connection, before, table) for table in _tables(connection, before)):
        raise CannotOpen(
            f"The tables in the schema {before} of {name} belong to another user: run "
            "`resultsink db upgrade` once as that user."
        )
