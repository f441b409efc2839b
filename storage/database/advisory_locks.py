"""Named locks that a transaction holds until its COMMIT."""

import hashlib

from sqlalchemy import Connection

from storage.database.postgres.names import schema_of

_LOCK = "SELECT pg_advisory_xact_lock(%s)"


def is_alone(connection: Connection) -> bool:
    """Return True where nobody else can write while this transaction is open (SQLite)."""
    return connection.dialect.name == "sqlite"


def lock_name(connection: Connection, name: str) -> None:
    """Wait for the lock of this name, and hold it until the caller's transaction ends.

    On SQLite there is one writer at a time anyway. On Postgres it is an advisory lock, which the
    server frees however the transaction ends; another schema has other locks.
    """
    if not is_alone(connection):
        named = f"{schema_of(connection)} {name}"
        digest = hashlib.blake2b(named.encode(), digest_size=8).digest()
        connection.exec_driver_sql(_LOCK, (int.from_bytes(digest, signed=True),))
