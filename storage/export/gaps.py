"""The gaps of an export: batches that are not complete, and single runs without a result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlmodel import col

from storage.batches import outstanding
from storage.batches.ledger import Ledger, list_page
from storage.database import Database
from storage.models import Batch, Endpoint, Run

SHOWN = 20
"""Batches that are listed one by one."""

PAGE = 100
"""Batches that one read counts."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """The newest open batches of an export, how many there are, and what its sources await.

    `outstanding` is the number of single runs without a result, by source, where there are any.
    """

    batches: Sequence[Ledger]
    open_batches: int
    outstanding: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(self.open_batches or self.outstanding)


def gaps(database: Database, sources: Sequence[str]) -> Gaps:
    """Return what is open of these sources, by its ledgers. All is counted in many short reads."""
    shown: list[Ledger] = []
    count = 0
    for ledger in _newest(database, sources):
        if ledger.state == "open":
            count += 1
            if count <= SHOWN:
                shown.append(ledger)
    awaited = ((source, outstanding.count(database, source)) for source in sources)
    return Gaps(shown, count, {source: count for source, count in awaited if count})


def _newest(database: Database, sources: Sequence[str]) -> Iterator[Ledger]:
    """Yield the ledgers of these sources, newest first."""
    before: int | None = None
    while True:
        with database.read() as connection:
            page, before = list_page(connection, sources=sources, limit=PAGE, before=before)
        yield from page
        if before is None:
            return


def known_sources(database: Database) -> list[str]:
    """Return the sources that have an endpoint, a batch or a run, sorted by name."""
    found: set[str] = set()
    for model in (Endpoint, Batch, Run):
        found.update(_distinct(database, col(model.source)))
    return sorted(found)


def _distinct(database: Database, column: Any) -> list[str]:
    """Return the values of a column, each found by one look into its index."""
    found: list[str] = []
    with database.read() as connection:
        query = select(func.min(column))
        while (value := connection.execute(query).scalar()) is not None:
            found.append(value)
            query = select(func.min(column)).where(column > value)
    return found
