"""The rows of a CSV file by the names of their columns.

Rows and columns that are wholly empty are what a spreadsheet leaves behind: they are left out, and
counted. What would be lost or shifted is refused.
"""

from collections.abc import Sequence

from receiver.providers.capabilities.batches import CreatesBatches
from receiver.submissions.tasks_file.rows import Rows, left_out, shown
from receiver.submissions.tasks_file.separators import (
    INVISIBLE,
    Record,
    Separator,
    column,
    is_filled,
    layout,
    records,
)

MAX_NAME = 200


def read_table(
    text: str, provider: CreatesBatches, told: Separator | None, usual: Separator
) -> Rows:
    """Return the rows of a CSV file; raises ValueError that begins with the line."""
    file = layout(text.lstrip(INVISIBLE), provider, told, usual)
    everything = list(records(file.text, file.separator, first_line=file.first_line))
    filled = [record for record in everything if is_filled(record.cells)]
    header, *below = filled or [Record(file.first_line, [])]
    names = [column(cell, provider) for cell in header.cells]
    _check_names(names, header.line, provider)
    _check_below(names, header.line, below, provider)
    if not provider.columns & set(names):
        _refuse_data(header, below)
    named = [(name, at) for at, name in enumerate(names) if name]
    return Rows(
        [(f"line {line}", {name: cells[at] for name, at in named}) for line, cells in below],
        "one column" if len(named) == 1 else f"separated by {file.separator}s",
        [
            *left_out(len(everything) - len(filled), "empty row"),
            *left_out(len(names) - len(named), "empty column"),
        ],
    )


def _check_names(names: Sequence[str], line: int, provider: CreatesBatches) -> None:
    needed = provider.required
    if needed is not None and needed not in names:
        raise ValueError(f"line {line}: the header row has no column `{needed}`")
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"line {line}: the column `{name}` stands there twice")
        if "\0" in name:
            raise ValueError(f"line {line}: the name {shown(name)} has a NUL in it: take it out")


def _check_below(
    names: Sequence[str], header_line: int, below: Sequence[Record], provider: CreatesBatches
) -> None:
    """Raise ValueError for a row that does not fit the header."""
    for line, cells in below:
        if len(cells) != len(names):
            compared = "more" if len(cells) > len(names) else "fewer"
            raise ValueError(f"line {line}: {compared} cells than the header row has columns")
        if _is_header(cells, names, provider):
            raise ValueError(f"line {line}: the header row stands there again")
        for at, cell in enumerate(cells):
            if cell.strip() and not names[at]:
                raise ValueError(
                    f"line {line}: the cell {shown(cell)} in column {at + 1} has no name above it "
                    f"in line {header_line}: name the column, or empty it"
                )
            if "\0" in cell:
                raise ValueError(f"line {line}: column {at + 1} has a NUL in it: take it out")


def _is_header(cells: Sequence[str], names: Sequence[str], provider: CreatesBatches) -> bool:
    """Return True if a row is the header again, or that of a second table of the sender's names."""
    below = [column(cell, provider) for cell in cells]
    if below == names:
        return True
    pairs = zip(names, below, strict=True)
    return any(name == cell for name, cell in pairs if name in provider.columns)


def _refuse_data(header: Record, below: Sequence[Record]) -> None:
    """Raise ValueError where the first row is a task, and not the names of columns.

    Only for headers of names that the sender does not know.
    """
    for at, cell in enumerate(header.cells):
        if why := _data_like(cell.strip()):
            raise ValueError(
                f"line {header.line}: {shown(cell)} is no name of a column, but {why}: "
                "the first row must name the columns"
            )
        for line, cells in below:
            if cell.strip() and cells[at] == cell:
                raise ValueError(
                    f"line {header.line}: {shown(cell)} stands in line {line} below it, too: "
                    "the first row must name the columns"
                )


def _data_like(name: str) -> str | None:
    if "://" in name:
        return "an address"
    if len(name) > MAX_NAME:
        return "a text"
    return None
