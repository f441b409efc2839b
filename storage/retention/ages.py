"""Ages at which rows are pruned."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Ages:
    """Ages to which rows of each kind are kept; None is for ever. ValueError for a contradiction.

    `events` is also the age of ended jobs, and of the rows of deliveries without their bodies.
    """

    deliveries: timedelta | None = None
    attempts: timedelta | None = None
    events: timedelta | None = None
    results: timedelta | None = None
    versions: timedelta | None = None

    def __post_init__(self) -> None:
        for name in ("deliveries", "attempts"):
            age = getattr(self, name)
            if self.events is not None and (age is None or age > self.events):
                raise ValueError(f"events cannot go before what hangs on them: {name}")

    def before(self, now: datetime) -> "Cutoffs":
        """Return the times before which rows are old enough."""
        ages = (self.deliveries, self.attempts, self.events, self.results, self.versions)
        return Cutoffs(*(None if age is None else now - age for age in ages))


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Times before which rows may be pruned; None: no row may."""

    deliveries: datetime | None
    attempts: datetime | None
    events: datetime | None
    results: datetime | None
    versions: datetime | None
