"""Batches as people name them: by id, by name, or by an unambiguous beginning of either."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select
from sqlmodel import col

from storage.errors import NotFound
from storage.models import Batch

SHOWN = 5
"""Candidates that the error for an ambiguous name lists."""


def resolve(connection: Connection, given: str, *, source: str | None) -> tuple[str, str]:
    """Return source and id of the batch that is meant: an id before a name, that before a prefix.

    Raises NotFound, which lists the candidates where there are several.
    """
    is_id, is_name = col(Batch.batch_id) == given, col(Batch.name) == given
    for is_meant in (is_id, is_name, _begins(given)):
        found = _find(connection, is_meant, source=source)
        if len(found) > 1:
            raise _ambiguous(given, found, is_id=is_meant is is_id)
        if found:
            return found[0].source, found[0].batch_id
    raise NotFound(f"There is no batch {given}: see `batch list`.")


def _begins(given: str) -> ColumnElement[bool]:
    """Select by a prefix; not by LIKE, which takes capitals for small letters on SQLite."""
    if not given:
        return col(Batch.id).is_(None)
    columns = (col(Batch.batch_id), col(Batch.name))
    return or_(*(func.substr(column, 1, len(given)) == given for column in columns))


def _find(
    connection: Connection, is_meant: ColumnElement[bool], *, source: str | None
) -> Sequence[Row[str, str, str | None]]:
    query = select(col(Batch.source), col(Batch.batch_id), col(Batch.name)).where(is_meant)
    if source is not None:
        query = query.where(col(Batch.source) == source)
    return connection.execute(query.order_by(col(Batch.id).desc())).all()


def _ambiguous(given: str, found: Sequence[Row[str, str, str | None]], *, is_id: bool) -> NotFound:
    if is_id:
        sources = ", ".join(sorted(row.source for row in found))
        return NotFound(f"Several sources have a batch {given}: add --source ({sources}).")
    shown = [f"{row.batch_id} ({row.name})" if row.name else row.batch_id for row in found[:SHOWN]]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return NotFound(
        f"{given} may be any of {len(found)} batches: {', '.join(shown)}{more}. "
        "Give an id, or more of it."
    )
