"""Tables that fit the terminal: ids stay whole, other columns are shortened or left out.

Where standard output is no terminal, a table is as wide as its rows, so that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.cells import cell_len
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from receiver.cli.output import in_one_line

OPTIONAL = (
    "reason",
    "name",
    "title",
    "expected",
    "received_at",
    "jobs",
    "detail",
    "source",
    "kind",
    "subject_kind",
    "sender_status",
    "disposition",
    "ended_at",
    "created_at",
    "completed_at",
    "deliveries",
    "event_id",
    "runner",
    "fetched_at",
    "secrets",
    "body_bytes",
)
"""Columns that are shown as far as there is room, the most important first. Others always are."""

_TEXTS = ("reason", "name", "title", "detail", "here", "there")
SHORTENED = {"key": 50, **dict.fromkeys(_TEXTS, 16)}
"""Columns of text, and to how many characters they may be cut; an event's key begins with an id."""

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
    overflow: OverflowMethod = "crop" if console.options.ascii_only else "ellipsis"
    console.print(_table({name: cells[name] for name in widths}, widths, overflow))


def fit(widths: Mapping[str, int], most: int) -> dict[str, int] | None:
    """Return the columns that fit, with their widths; None where those that must stay do not."""
    least = {
        name: min(width, max(SHORTENED.get(name, width), len(name)))
        for name, width in widths.items()
    }
    shown = {name: width for name, width in least.items() if name not in OPTIONAL}
    if _total(shown) > most:
        return None
    for name in OPTIONAL:
        if name in least and _total({**shown, name: least[name]}) <= most:
            shown[name] = least[name]
    least = {name: width for name, width in least.items() if name in shown}
    room = most - _total(least)
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


def _table(cells: Cells, widths: Mapping[str, int], overflow: OverflowMethod) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in cells:
        title = name.replace("_", " ")
        table.add_column(title, no_wrap=True, overflow=overflow, width=widths[name])
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _print_blocks(console: Console, rows: Rows, columns: Sequence[str]) -> None:
    """Print each row as lines of a name and a value, unbroken, so that an id can be copied."""
    width = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            console.print()
        for name in columns:
            title = Text(name.replace("_", " ").ljust(width + GAP), style="bold")
            console.print(title, Text(in_one_line(row[name])), sep="", soft_wrap=True)
