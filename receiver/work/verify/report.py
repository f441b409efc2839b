"""Report of a verification: what was compared, what differs, and what could not be looked at."""

from dataclasses import dataclass, field

from receiver.work.reconcile.report import Left
from receiver.work.verify.comparison import Difference, Kind

MOST = 10_000
"""Differences that are named; further ones are counted alone, so that memory stays bounded."""


@dataclass(slots=True)
class Report:
    """A verification of one source.

    compared: runs that the sender shows. going_on: runs that have ended neither here nor there.
    drift: differences that a repair may mend; not_comparable: runs pruned here or gone there.
    repaired: what a repair has stored, as it differed before. calls: requests to the sender.
    """

    source: str
    compared: int = 0
    going_on: int = 0
    calls: int = 0
    drifted: int = 0
    drift: list[Difference] = field(default_factory=list)
    not_comparable: list[Difference] = field(default_factory=list)
    repaired: list[Difference] = field(default_factory=list)
    incomplete: list[Left] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """True where everything could be compared, and nothing has drifted."""
        return not self.drifted and not self.incomplete

    def add(self, difference: Difference) -> None:
        """Name a difference, by whether it is drift."""
        is_drift = Kind(difference.kind).is_drift
        self.drifted += is_drift
        named = self.drift if is_drift else self.not_comparable
        if len(named) < MOST:
            named.append(difference)

    def merge(self, other: "Report") -> None:
        """Add the differences of another report, and what it compared."""
        self.compared += other.compared
        self.going_on += other.going_on
        self.drifted += other.drifted
        for mine, more in (
            (self.drift, other.drift),
            (self.not_comparable, other.not_comparable),
            (self.repaired, other.repaired),
        ):
            mine += more[: max(0, MOST - len(mine))]
        self.incomplete += other.incomplete
