"""Taking turns: what one transaction must not do beside another of its kind."""

import hashlib

from sqlalchemy import Connection

_LOCK = "SELECT pg_advisory_xact_lock(%s)"


def is_alone(connection: Connection) -> bool:
    """Whether nobody else writes while this transaction is open, so that it need lock nothing."""
    return connection.dialect.name == "sqlite"


def take_turns(connection: Connection, name: str) -> None:
    """Wait until no other transaction that took this turn is open; ours ends with its COMMIT.

    On SQLite one writes at a time anyway. On Postgres it is an advisory lock: it is let go of by
    the server however we end.
    """
    if not is_alone(connection):
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        connection.exec_driver_sql(_LOCK, (int.from_bytes(digest, signed=True),))
