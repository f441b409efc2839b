"""Pruning of old rows, in small steps. What is alive stays, and every count stays right.

    kind        what is pruned                           once older than its age, and
    ----------  ---------------------------------------  -----------------------------------------
    attempts    the row                                  its job has ended
    deliveries  body and headers; the row stays          no job of its event is alive
    jobs        the row                                  it has ended; its attempts are gone
    events      the row, and the rows of its deliveries  its last delivery is that old; its jobs and
                                                         its bodies are gone
    versions    the row of a superseded result           the result that superseded it is that old
    results     output, sources, error, raw; the row     its batch is not open
                stays, so that every ledger still adds
                up and nothing is fetched again

A job is alive while it is pending or running, and as a dead letter, whose replay needs its event
and that event's bodies. Emptied rows keep their digest, by which equal content is still recognised.

Rows are walked by their key from the oldest on, since keys grow with time: no index is needed, and
the first rows that are too young end the walk. A step looks for rows outside of the transaction
that then takes a few hundred of them at most, and checks there again that they may go.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from storage import clock
from storage.database import Database
from storage.retention.ages import Ages
from storage.retention.kinds import KINDS as _KINDS
from storage.retention.walk import DueRows, Step, let_go, look, span

__all__ = [
    "AGE_OF", "KINDS", "Ages", "DueRows", "RetentionStore", "Step", "let_go", "look", "span",
]  # fmt: skip

KINDS: Final = tuple(_KINDS)
"""All kinds, each after those that depend on it."""

AGE_OF: Final[Mapping[str, str]] = MappingProxyType({kind: _KINDS[kind].age for kind in _KINDS})
"""The name of the age that counts for each kind."""


class RetentionStore:
    """The old rows of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prune(self, kind: str, ages: Ages, *, after: int = 0, dry_run: bool = False) -> Step:
        """Prune the next few rows of a kind behind the key `after`, in one transaction.

        Nothing is written where none of those looked at may go. `dry_run` only counts, as if the
        rows that hang on them were gone. Any number of processes may do this at once.
        """
        moment = self._database.now()
        with self._database.read() as connection:
            found = look(connection, kind, ages, after=after, now=moment, keep=dry_run)
        gone = list(found.sizes)
        if gone and not dry_run:
            gone = self._database.write(lambda c: let_go(c, kind, ages, gone, now=moment))
        size = sum(found.sizes[each] for each in gone)
        return Step(len(gone), size, found.reached, found.is_end)

    def clock_may_be_ahead(self) -> bool:
        """Return True where the clock has lately leapt by a day or more since it was last seen."""
        with self._database.read() as connection:
            now = self._database.look_at_clock(connection)
            return clock.may_be_ahead(connection, now=now)

    def keys_of(self, kind: str) -> tuple[int, int]:
        """Return the first and the last key of a kind, which bound a walk; (0, 0) without rows."""
        with self._database.read() as connection:
            return span(connection, kind)
