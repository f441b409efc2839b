"""The figures of a scenario: one line while it runs, one row of the table at the end."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

HEADS = {
    "scenario": "Scenario",
    "database": "Database",
    "faults": "Kills or faults",
    "acknowledged": "Deliveries acknowledged",
    "refused": "Refused with 503",
    "slowest": "Slowest refusal, s",
    "lost": "Lost",
    "repeated": "Repeated",
    "recovered": "Recovered in, s",
}


@dataclass(frozen=True)
class Figures:
    """One scenario on one database. `slowest` is None where nothing was refused.

    `recovered`: seconds from the end of the last fault until everything acknowledged was worked
    off, the backlog included.
    """

    scenario: str
    database: str
    faults: int
    acknowledged: int
    refused: int
    slowest: float | None
    lost: int
    repeated: int
    recovered: float

    def cells(self) -> list[str]:
        return [_cell(value) for value in asdict(self).values()]

    def line(self) -> str:
        """The one line for the log."""
        named = zip((field.name for field in fields(self)), self.cells(), strict=True)
        return ", ".join(f"{name} {cell}" for name, cell in named)


def table(rows: Iterable[list[str]]) -> str:
    """All of them in Markdown."""
    heads = list(HEADS.values())
    marks = ["---", "---"] + ["---:"] * (len(heads) - 2)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
