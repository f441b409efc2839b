"""CSV: RFC 4180 with CRLF, UTF-8 without a byte order mark, a header always.

The columns are FIXED, then the keys of the inputs, then those of the outputs. An input or output
that is not an object counts as one with the single key `input` or `output`. Failed and cancelled
runs have empty outputs, even where a part of one came, and add no columns: the JSON has them.

Two passes over the same snapshot, since the header comes first and the rows do not fit in memory.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from sqlalchemy import case
from sqlmodel import col

from storage.errors import ExportChanged
from storage.export.cells import guarded, unguarded, writers
from storage.export.columns import Columns
from storage.export.rows import OnProgress, Record, RowPage, Snapshot
from storage.models import Result, Run

_DOCUMENTS = (Run.input, case((col(Result.status) == "completed", col(Result.output))))
_FACTS = (Run.task_id, Run.batch_id, Run.run_id, Result.status, Run.runner)

# Faster than `decode`, and NaN and the infinities are empty cells.
_parse = json.JSONDecoder(parse_constant=lambda _: None).raw_decode

Guard = Callable[[str], str]


def write_csv(
    snapshot: Snapshot, out: IO[bytes], progress: OnProgress, *, formula_guard: bool
) -> tuple[int, tuple[str, ...]]:
    """Write the header and all rows; return the number of rows and the header."""
    guard = guarded if formula_guard else unguarded
    columns = _find_columns(snapshot, progress)
    header = columns.names(guard)
    out.write(_lines([header], unguarded))
    written = 0
    for page in snapshot.pages(_FACTS, _DOCUMENTS):
        out.write(_lines(_rows(page, columns), guard))
        written += len(page)
        progress(written)
    return written, header


def _find_columns(snapshot: Snapshot, progress: OnProgress) -> Columns:
    columns = Columns()
    for page in snapshot.pages((), _DOCUMENTS):
        for row in page:
            given, output = _documents(row)
            if not columns.has(given, output):
                columns.add(given, output)
        progress(0)
    return columns


def _rows(page: RowPage, columns: Columns) -> Iterator[list[Any]]:
    for row in page:
        given, output = _documents(row)
        if not columns.has(given, output):
            raise _changed(row)
        yield [*row[1:-2], *map(given.get, columns.inputs), *map(output.get, columns.outputs)]


def _documents(row: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse the input and the output of a row."""
    return _document(row[-2], "input"), _document(row[-1], "output")


def _document(text: str | None, part: str) -> dict[str, Any]:
    """Parse an input or output as an object; NULL is an empty one."""
    value = None if text is None else _parse(text.lstrip())[0]
    if isinstance(value, dict):
        return value
    return {} if value is None else {part: value}


def _changed(row: Record) -> ExportChanged:
    return ExportChanged(f"Run {row[3]} gained a column while it was being exported: export again.")


def _lines(rows: Iterable[Iterable[Any]], guard: Guard) -> bytes:
    write = writers(guard)
    lines = [",".join([write[type(value)](value) for value in row]) for row in rows]
    return ("\r\n".join(lines) + "\r\n").encode()
