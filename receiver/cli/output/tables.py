"""Tables that fit the terminal: ids stay whole, other columns are shortened or left out.

Where standard output is no terminal, a table is as wide as its rows, so that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.cli.output import in_one_line

LEAST_FIRST = (
    "body_bytes",
    "secrets",
    "fetched_at",
    "completed_at",
    "runner",
    "event_id",
    "deliveries",
    "created_at",
    "ended_at",
    "subject_kind",
    "sender_status",
    "kind",
    "source",
    "received_at",
    "jobs",
    "detail",
    "name",
    "title",
    "reason",
)
"""Columns that may be left out on a narrow terminal, the least important first. Others stay."""

TEXTS = frozenset({"detail", "name", "title", "reason", "scopes", "here", "there"})
"""Columns of free text, which are shortened before any column is left out."""

LEAST_TEXT = 16
GAP = 2
OLD = timedelta(days=180)
AHEAD = timedelta(hours=1)
"""By so much the clock of the database may be ahead of ours."""

Rows = Sequence[Mapping[str, object]]
Cells = dict[str, list[str]]


def print_table(rows: Rows, columns: Sequence[str]) -> None:
    """Print rows on standard output; those that no table can hold as one block each."""
    console = Console(highlight=False, emoji=False)
    cells = _cells(rows, columns, in_one_line)
    widths = {name: _width(name, texts) for name, texts in cells.items()}
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=max(_total(widths), 1))
    elif _total(widths) > console.width:
        cells = _cells(rows, columns, _short)
        fitted = fit({name: _width(name, texts) for name, texts in cells.items()}, console.width)
        if fitted is None:
            _print_blocks(console, rows, columns)
            return
        widths = fitted
    console.print(_table({name: cells[name] for name in widths}, widths))


def fit(widths: Mapping[str, int], most: int) -> dict[str, int] | None:
    """Return the columns that fit, with their widths; None where those that must stay do not."""
    least = {
        name: min(width, max(LEAST_TEXT, len(name))) if name in TEXTS else width
        for name, width in widths.items()
    }
    for name in LEAST_FIRST:
        if _total(least) <= most:
            break
        least.pop(name, None)
    room = most - _total(least)
    if room < 0:
        return None
    for name in reversed(least):
        more = min(room, widths[name] - least[name])
        least[name] += more
        room -= more
    return least


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _width(name: str, texts: Sequence[str]) -> int:
    return max(len(name), *map(cell_len, texts))


def _cells(rows: Rows, columns: Sequence[str], shown: Callable[[object], str]) -> Cells:
    return {name: [shown(row[name]) for row in rows] for name in columns}


def _short(value: object) -> str:
    """Return a value as a person reads it; a recent moment has no year, as in `ls`."""
    if not isinstance(value, datetime):
        return in_one_line(value)
    is_recent = -AHEAD < datetime.now(UTC) - value < OLD
    return value.astimezone(UTC).strftime("%m-%d %H:%M" if is_recent else "%Y-%m-%d")


def _table(cells: Cells, widths: Mapping[str, int]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in cells:
        title = name.replace("_", " ")
        table.add_column(title, no_wrap=True, overflow="ellipsis", width=widths[name])
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _print_blocks(console: Console, rows: Rows, columns: Sequence[str]) -> None:
    """Print each row as lines of a name and a value."""
    for number, row in enumerate(rows):
        block = Table.grid(padding=(0, GAP))
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for name in columns:
            block.add_row(name.replace("_", " "), Text(in_one_line(row[name])))
        if number:
            console.print()
        console.print(block)
