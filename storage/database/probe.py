"""A small write that proves that the database can be written, and waits for no other process."""

import secrets
from datetime import datetime

from sqlalchemy import Connection, select, update
from sqlmodel import col

from storage.database.base import insert
from storage.models import Meta

PREFIX = "probe"
"""The beginning of the `meta` keys that are written; each database has its own."""

_FREE = (
    select(col(Meta.key))
    .where(col(Meta.key) >= PREFIX, col(Meta.key) < "probf")  # a range, for which there is an index
    .limit(1)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)


def write(connection: Connection, *, now: datetime) -> None:
    """Write to a row that nobody else is writing to.

    A process that is frozen in this transaction holds its row until the server ends it. There are
    never more rows than processes that wrote at one moment.
    """
    change = update(Meta).where(col(Meta.key) == _FREE).values(value=str(now))
    if not connection.execute(change).rowcount:
        own = f"{PREFIX} {secrets.token_hex(8)}"
        connection.execute(insert(Meta).values(key=own, value=str(now)))
