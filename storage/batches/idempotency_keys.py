"""Idempotency keys of calls that added runs without ids: a repeated call does not count again."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete
from sqlmodel import col

from storage.database import insert
from storage.models import Meta

PREFIX = "addition "
"""The beginning of the `meta` keys under which idempotency keys are kept."""

KEPT = timedelta(days=1)
"""How long a key is kept: far longer than a call is repeated."""


def is_new(connection: Connection, key: str, *, now: datetime) -> bool:
    """Keep a key; returns True unless it was kept already. Keys older than KEPT are deleted."""
    connection.execute(
        delete(Meta).where(col(Meta.key).startswith(PREFIX), col(Meta.value) < str(now - KEPT))
    )
    note = insert(Meta).values(key=PREFIX + key, value=str(now)).on_conflict_do_nothing()
    return connection.execute(note.returning(col(Meta.key))).first() is not None
