"""The one table: what, against what, our figure, the target, the ratio, reached or not.

A benchmark gives rows and, beside them, all that it saw. `python -m benchmarks` puts the rows of
all benchmarks into one table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 100


@dataclass(frozen=True)
class Row:
    """One line of the table. `reached` is None where there is no target, or no figure."""

    what: str
    against: str
    ours: str
    target: str = "-"
    ratio: float | None = None
    reached: bool | None = None

    @classmethod
    def failed(cls, what: str) -> "Row":
        """The line of what could not be measured; why stands below the table."""
        return cls(what, "-", "NOT MEASURED: see below")

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> "Row":
        """Return the row that `as_dict` wrote."""
        return cls(**written)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def at_least(
    what: str, against: str, ours: str, *, ratio: float, least: float, aim: float | None = None
) -> Row:
    """A row that is reached from a ratio on."""
    target = f">= {least:g}" + (f", aim {aim:g}" if aim is not None else "")
    return Row(what, against, ours, target, round(ratio, 3), ratio >= least)


def at_most(what: str, against: str, figure: float, unit: str, *, most: float) -> Row:
    """A row that is reached up to a figure."""
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    ours = f"{figure:,.{digits}f} {unit}"
    return Row(what, against, ours, f"<= {most:g} {unit}", None, figure <= most)


def at_least_figure(what: str, against: str, figure: float, unit: str, *, least: float) -> Row:
    """A row that is reached from a figure on."""
    return Row(
        what, against, f"{figure:,.0f} {unit}", f">= {least:,g} {unit}", None, figure >= least
    )


def table(rows: Iterable[Row], title: str) -> Table:
    """Lay rows out in 100 columns."""
    laid = Table(title=title, width=WIDTH, show_lines=True)
    laid.add_column("what", ratio=34)
    laid.add_column("against", ratio=20)
    laid.add_column("our figure", ratio=18)
    laid.add_column("target", ratio=12)
    laid.add_column("ratio", justify="right", min_width=5)
    laid.add_column("reached", min_width=7)
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        laid.add_row(row.what, row.against, row.ours, row.target, ratio, _word(row.reached))
    return laid


def show(*shown: Table | str) -> None:
    """Print in 100 columns, whatever the terminal has."""
    console = Console(width=WIDTH)
    for one in shown:
        console.print(one, highlight=False, markup=False)


def _word(reached: bool | None) -> str:
    return "-" if reached is None else "yes" if reached else "NO"
