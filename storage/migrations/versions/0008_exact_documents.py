"""JSON documents keep every number as it was written; a SQLite file is marked as ours."""

import json
import re

from alembic import op
from sqlalchemy import Connection

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

APPLICATION_ID = 0x52534E4B

TABLES = ("batches", "jobs", "results", "runs", "tokens", "submissions", "submission_tasks")
"""The tables with documents."""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        documents = _documents(connection, _IN_FILE)
        _declare_text(connection, documents)
        _numbers_to_text(connection, documents)
    else:
        _jsonb_to_json(connection, _documents(connection, _ON_SERVER))


_IN_FILE = "SELECT name FROM pragma_table_info(?) WHERE type = 'JSON'"
_ON_SERVER = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass(%s) AND atttypid = 'jsonb'::regtype AND NOT attisdropped
"""


def _documents(connection: Connection, listing: str) -> dict[str, list[str]]:
    """Return the columns whose type changes, by table."""
    found = {table: connection.exec_driver_sql(listing, (table,)).scalars() for table in TABLES}
    return {table: columns for table, rows in found.items() if (columns := list(rows))}


def _declare_text(connection: Connection, documents: dict[str, list[str]]) -> None:
    """Declare documents as TEXT, without writing the rows anew.

    A column that is declared as JSON turns a text that looks like a number into one
    (https://sqlite.org/datatype3.html#determination_of_column_affinity). The type stands in the
    schema alone, not in the rows, so that a file of any size is changed in a moment
    (https://sqlite.org/lang_altertable.html#making_other_kinds_of_table_schema_changes).
    """
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table in documents:
        named = "WHERE type = 'table' AND name = ?"
        found = f"SELECT sql FROM sqlite_master {named}"  # noqa: S608  all of it stands here
        before = connection.exec_driver_sql(found, (table,)).scalar_one()
        after = re.sub(r"\bJSON\b", "TEXT", before)
        change = f"UPDATE sqlite_master SET sql = ? {named}"  # noqa: S608
        connection.exec_driver_sql(change, (after, table))
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")


def _numbers_to_text(connection: Connection, documents: dict[str, list[str]]) -> None:
    """Write numbers as JSON; only rows that have one are written."""
    raw = connection.connection.driver_connection
    assert raw is not None  # noqa: S101  it is open
    raw.create_function("as_json", 1, json.dumps, deterministic=True)
    for table, columns in documents.items():
        for column in columns:
            connection.exec_driver_sql(
                f"UPDATE {table} SET {column} = as_json({column})"  # noqa: S608  names of our own
                f" WHERE typeof({column}) IN ('integer', 'real')"
            )


def _jsonb_to_json(connection: Connection, documents: dict[str, list[str]]) -> None:
    """Give up JSONB, which writes -0.0 as 0.0, and 1e23 as a whole number, another one.

    Each table is written anew once, by the server.
    """
    for table, columns in documents.items():
        changes = (f"ALTER COLUMN {column} TYPE json USING {column}::json" for column in columns)
        connection.exec_driver_sql(f"ALTER TABLE {table} {', '.join(changes)}")
