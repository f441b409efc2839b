"""Arrivals of a batch's results: by which way each came, and its cost; the sender's own counts."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from sqlalchemy import Connection, func, select
from sqlmodel import col

from storage.batches.ledger import is_stored
from storage.models import Batch, Result, Run

UNKNOWN = "unknown"
"""The way of results that were stored before ways were noted."""

DIGITS = 6
"""Decimals to which a sum of costs is rounded: prices have fewer, and sums of floats have dust."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The stored results of a batch: how many came by each way, and what they cost.

    `cost` is the sum of what the sender charged for them; None where it said of none.
    """

    found_by: dict[str, int]
    cost: float | None


def of_batch(connection: Connection, source: str, batch_id: str) -> Arrivals:
    """Return how the stored results of a batch arrived."""
    rows = connection.execute(
        select(col(Result.found_by), func.count(), func.sum(col(Result.cost)))
        .select_from(Run)
        .join(Result, (col(Result.run_pk) == col(Run.id)) & col(Result.is_current))
        .where(col(Run.source) == source, col(Run.batch_id) == batch_id, is_stored())
        .group_by(col(Result.found_by))
        .order_by(func.count().desc(), col(Result.found_by))
    ).all()
    costs = [cost for _, _, cost in rows if cost is not None]
    return Arrivals(
        {way or UNKNOWN: count for way, count, _ in rows},
        round(sum(costs), DIGITS) if costs else None,
    )


class SenderCounts(TypedDict):
    """The sender's own counts: all runs, those that ended, and runs by its statuses.

    `total` and `ended` are None where it does not give them. `read_at` is when it was asked.
    """

    total: int | None
    ended: int | None
    by_status: dict[str, int]
    read_at: datetime | None


def by_sender(connection: Connection, source: str, batch_id: str) -> SenderCounts | None:
    """Return what the sender said last about its runs of a batch, or None."""
    counts, read_at = connection.execute(
        select(col(Batch.counts), col(Batch.checked_at)).where(
            col(Batch.source) == source, col(Batch.batch_id) == batch_id
        )
    ).one()
    if counts is None:
        return None
    rest = {name: count for name, count in counts.items() if name not in ("total", "ended")}
    return {
        "total": counts.get("total"),
        "ended": counts.get("ended"),
        "by_status": rest,
        "read_at": read_at,
    }
