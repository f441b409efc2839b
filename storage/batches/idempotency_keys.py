"""Additions to batches that counted runs without ids: known again where they are repeated."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete
from sqlmodel import col

from storage.database import insert
from storage.models import Meta

NOTED = "addition "
"""What their keys begin with."""

KEPT = timedelta(days=1)
"""For how long one is known again: far longer than anybody repeats it."""


def is_new(connection: Connection, addition: str, *, now: datetime) -> bool:
    """Note an addition; says whether it was not noted before. Those long past are forgotten."""
    connection.execute(
        delete(Meta).where(col(Meta.key).startswith(NOTED), col(Meta.value) < str(now - KEPT))
    )
    note = insert(Meta).values(key=NOTED + addition, value=str(now)).on_conflict_do_nothing()
    return connection.execute(note.returning(col(Meta.key))).first() is not None
