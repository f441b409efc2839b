"""Letting go of what is old."""

from storage import clock, retention
from storage.retention import Ages, Step
from storage.store.base import Base


class Retention(Base):
    """Letting go of what is old."""

    def prune(self, kind: str, ages: Ages, *, after: int = 0, dry_run: bool = False) -> Step:
        """Let go of the next few rows of a kind behind the key `after`, in one transaction.

        Nothing is written where none of those looked at may go. `dry_run` only says what would go,
        taking what hangs on it for gone. Any number of processes may do this at once.
        """
        moment = self.database.now()
        with self.database.read() as connection:
            found = retention.look(connection, kind, ages, after=after, now=moment, keep=dry_run)
        gone = list(found.sizes)
        if gone and not dry_run:
            gone = self.database.write(lambda c: retention.let_go(c, kind, ages, gone, now=moment))
        size = sum(found.sizes[each] for each in gone)
        return Step(len(gone), size, found.reached, found.is_end)

    def clock_may_be_ahead(self) -> bool:
        """Whether the clock is a day or more later than when it was last seen, or was of late."""
        with self.database.read() as connection:
            return clock.may_be_ahead(connection, now=self.database.look_at_clock(connection))

    def keys_of(self, kind: str) -> tuple[int, int]:
        """The first and the last key there are of a kind, to tell how far a walk is."""
        with self.database.read() as connection:
            return retention.span(connection, kind)
