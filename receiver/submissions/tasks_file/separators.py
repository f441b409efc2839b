"""Which character separates the columns of a CSV file.

A comma (in `.tsv` a tab), unless the header shows another and something proves it: the column that
every task needs, another column that the sender knows, or the user. Where a sender takes any
column, a header that is split wrongly would make runs that are paid for and useless.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from receiver.providers.capabilities.batches import CreatesBatches
from receiver.submissions.tasks_file.rows import shown

MAX_CELL_CHARACTERS = 16 * 1024 * 1024
INVISIBLE = "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060"
"""Byte order marks and others of no width, which pages and programs leave around a name."""
_FOREIGN = "\uff0c\uff1b\uff5c\u3001\u060c\u061b"
"""The commas, semicolons and bars of Chinese, Japanese and Arabic, which separate nothing here."""


class Separator(StrEnum):
    """The separators of columns, by the names that the user gives them."""

    comma = "comma"
    semicolon = "semicolon"
    tab = "tab"
    bar = "bar"

    @property
    def character(self) -> str:
        return {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}[self.value]


class Record(NamedTuple):
    """The cells of a row, and the line at which it begins."""

    line: int
    cells: list[str]


class Layout(NamedTuple):
    """A file as it is to be read: its text without Excel's own line, and the separator."""

    text: str
    first_line: int
    separator: Separator


def column(name: str, provider: CreatesBatches) -> str:
    """Return a column's name; only names that the provider knows are made lower case."""
    name = re.sub(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+\Z", "", name)
    return name.lower() if name.lower() in provider.columns else name


def records(text: str, separator: Separator, *, first_line: int = 1) -> Iterator[Record]:
    """Give the rows that are not empty; raises ValueError with the line of one that is not CSV."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    # Not splitlines(): it also splits at U+2028 and others, which are part of a cell.
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator.character, strict=True)
    line = first_line
    try:
        for cells in reader:
            yield Record(line, cells)
            line = first_line + reader.line_num
    except csv.Error as error:
        raise ValueError(f"line {line}: not valid CSV: {error}") from None


def layout(text: str, provider: CreatesBatches, told: Separator | None, usual: Separator) -> Layout:
    """Return how to read a file; raises ValueError, with the line, where that is not certain.

    What is `usual` in files of that name needs no proof.
    """
    declared, text = _declared(text)
    line = 1 if declared is None else 2
    if told is not None:
        if declared not in (None, told):
            raise ValueError(f"line 1: it says that {declared}s separate, not {told}s")
        return Layout(text, line, told)
    found = _found(text, provider, _candidates(text, declared, usual))
    separator = found[0] if found else usual
    # Without the column that every task needs, that is what the user must hear of.
    if provider.required is None or _is_proven(_header(text, separator), provider):
        _refuse_doubt(text, provider, found, usual, line)
    return Layout(text, line, separator)


def _candidates(text: str, declared: Separator | None, usual: Separator) -> Sequence[Separator]:
    if declared is not None:
        return [declared]
    if usual == Separator.tab and len(_header(text, usual)) > 1:
        return [usual]  # hardly a name has a tab in it
    return list(Separator)


def _refuse_doubt(
    text: str, provider: CreatesBatches, found: Sequence[Separator], usual: Separator, line: int
) -> None:
    """Raise ValueError where the separators that were found leave a doubt."""
    if len(found) > 1:
        raise ValueError(
            f"line {line}: the columns may be separated by {' or '.join(f'{s}s' for s in found)}: "
            f"say which with --separator, for example --separator {found[0]}"
        )
    separator = found[0] if found else usual
    header = _header(text, separator)
    if separator != usual and not _is_proven(header, provider):
        names = ", ".join(shown(cell.strip()) for cell in header)
        raise ValueError(
            f"line {line}: the columns seem to be separated by {separator}s ({names}), and none "
            f"of them is known to this sender: if that is right, add --separator {separator}"
        )
    filled = [cell for cell in header if is_filled([cell])]
    if len(filled) == 1 and provider.required is None:
        _refuse_hidden_separator(filled[0], separator, line)


def _declared(text: str) -> tuple[Separator | None, str]:
    """Take off the line with which Excel names the separator, such as `sep=;`."""
    found = re.match(r'"?sep=([^\r\n]*?)"?(\r\n|\r|\n|$)', text, re.IGNORECASE)
    if found is None:
        return None, text
    for separator in Separator:
        if found[1] == separator.character:
            return separator, text[found.end() :]
    raise ValueError(f"line 1: {shown(found[0].strip())} names no separator that can be read")


def _found(text: str, provider: CreatesBatches, among: Sequence[Separator]) -> list[Separator]:
    """Return the separators that divide the header; several only if nothing tells which is right.

    What tells is, in this order: a column that the sender needs or knows, and rows that all have as
    many cells as the header.
    """
    headers = {separator: _header(text, separator) for separator in among}
    found = [separator for separator in among if len(headers[separator]) > 1]
    if len(found) > 1:
        found = [each for each in found if _is_proven(headers[each], provider)] or found
    if len(found) > 1:
        found = [each for each in found if _fits(text, each)] or found
    return found


def _header(text: str, separator: Separator) -> list[str]:
    """Return the first row that is not empty; no cells where there is none, or it is no CSV."""
    try:
        return next((cells for _, cells in records(text, separator) if is_filled(cells)), [])
    except ValueError:
        return []


def is_filled(cells: Sequence[str]) -> bool:
    """Return True if a row has anything in it."""
    return any(not cell.isspace() for cell in cells if cell)


def _is_proven(header: Sequence[str], provider: CreatesBatches) -> bool:
    names = {column(cell, provider) for cell in header}
    if provider.required is not None:
        return provider.required in names
    return bool(names & provider.columns)


def _fits(text: str, separator: Separator) -> bool:
    try:
        return len({len(cells) for _, cells in records(text, separator) if cells}) == 1
    except ValueError:
        return False


def _refuse_hidden_separator(name: str, separator: Separator, line: int) -> None:
    """Raise ValueError for a single column whose name holds what separates elsewhere."""
    between = {each.character: f"{each}s" for each in Separator}
    between |= {each: shown(each) for each in _FOREIGN}
    for character, words in between.items():
        if character in name:
            raise ValueError(
                f"line {line}: the only column, {shown(name)}, seems to be several with {words} "
                f"between them: write {separator}s there, or add --separator {separator} if it is "
                "one"
            )
