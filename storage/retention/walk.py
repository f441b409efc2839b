"""The walk over the rows of a kind, a few hundred at a time, from the oldest on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select
from sqlmodel import col

from storage.retention.ages import Ages, Cutoffs
from storage.retention.kinds import KINDS, RetentionKind

LOOK_ROWS: Final = 500
"""Rows that one read looks at."""

STEP_ROWS: Final = 250
STEP_BYTES: Final = 8 * 1024 * 1024
"""Limits of one transaction, so that acks come in between; one row may exceed the bytes."""


@dataclass(frozen=True, slots=True)
class Step:
    """The rows that one step pruned, or would prune, and the key after which to go on.

    `bytes` counts the bodies and texts in the rows. `is_end` means that no row after `reached` is
    old enough.
    """

    rows: int
    bytes: int
    reached: int
    is_end: bool


@dataclass(frozen=True, slots=True)
class DueRows:
    """The rows that may go, each with its bytes, and the key after which to go on."""

    sizes: Mapping[int, int]
    reached: int
    is_end: bool


def look(
    connection: Connection, kind: str, ages: Ages, *, after: int, now: datetime, keep: bool = False
) -> DueRows:
    """Return the rows after the key `after` that may go.

    With `keep` nothing is pruned: rows that depend on them count as gone.
    """
    table, before = KINDS[kind], ages.before(now)
    if _cutoff(table, before) is None:
        return DueRows({}, after, is_end=True)
    key = col(table.model.id)
    ids = connection.scalars(
        select(key).where(key > after, *table.among).order_by(key).limit(LOOK_ROWS)
    ).all()
    ages_of = _stamps(connection, table, {*ids[:1], *ids[-1:]})
    if not any(_is_old(stamp, table, before) for stamp in ages_of):
        return DueRows({}, after, is_end=True)
    conditions = table.due(before) if keep else [*table.due(before), *table.is_free]
    due = connection.execute(
        select(key, table.size)
        .where(key.between(ids[0], ids[-1]), *table.among, *conditions)
        .order_by(key)
        .limit(STEP_ROWS)
    ).all()
    taken = _no_more_than(STEP_BYTES, [(row[0], int(row[1])) for row in due])
    if len(taken) < len(due) or len(due) == STEP_ROWS:
        return DueRows(dict(taken), taken[-1][0], is_end=False)
    if not _is_old(ages_of[-1], table, before):  # the rows of these ages first
        return DueRows(dict(taken), taken[-1][0] if taken else after, is_end=True)
    return DueRows(dict(taken), ids[-1], is_end=False)


def let_go(
    connection: Connection, kind: str, ages: Ages, ids: Sequence[int], *, now: datetime
) -> list[int]:
    """Prune those of these rows that still may go; returns their keys.

    Rows that another transaction holds, of another pruner or the intake, are left for later.
    """
    table = KINDS[kind]
    key = col(table.model.id)
    held = table.hold(connection, ids)
    sure = connection.scalars(
        select(key).where(key.in_(held), *table.due(ages.before(now)), *table.is_free).order_by(key)
    ).all()
    if sure:
        table.go(connection, sure, now)
    return list(sure)


def span(connection: Connection, kind: str) -> tuple[int, int]:
    """Return the first and the last key of a kind; (0, 0) without rows."""
    key = col(KINDS[kind].model.id)
    first, last = connection.execute(select(func.min(key), func.max(key))).one()
    return first or 0, last or 0


# --- inside -------------------------------------------------------------------------------------


def _cutoff(table: RetentionKind, before: Cutoffs) -> datetime | None:
    cutoff: datetime | None = getattr(before, table.age)
    return cutoff


def _is_old(stamp: datetime, table: RetentionKind, before: Cutoffs) -> bool:
    cutoff = _cutoff(table, before)
    return cutoff is not None and stamp < cutoff


def _stamps(
    connection: Connection, table: RetentionKind, ids: Collection[int]
) -> Sequence[datetime]:
    key = col(table.model.id)
    return connection.scalars(select(table.stamp).where(key.in_(ids)).order_by(key)).all()


def _no_more_than(limit: int, rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the first rows that have no more than these bytes together, but one at least."""
    total = 0
    for place, (_, size) in enumerate(rows):
        total += size
        if total > limit:
            return rows[: max(place, 1)]
    return rows
