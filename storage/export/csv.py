"""CSV: RFC 4180 with CRLF, UTF-8, a header always.

The columns are FIXED, DETAILS where they are asked for, then the keys of the inputs, then those of
the outputs. An input or output that is not an object counts as one with the single key `input` or
`output`. Failed and cancelled runs have empty outputs, even where a part of one came, and add no
columns: the JSON has them.

Two passes over the same snapshot, since the header comes first and the rows do not fit in memory.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from sqlalchemy import case
from sqlmodel import col

from storage.errors import ExportChanged
from storage.export.cells import guarded, moment, unguarded, writers
from storage.export.columns import DETAILS, FIXED, Columns
from storage.export.rows import OnProgress, Record, RowPage, Snapshot
from storage.models import Result, Run
from storage.presigned_urls import without_signatures

_DOCUMENTS = (Run.input, case((col(Result.status) == "completed", col(Result.output))))
_FACTS = (Run.task_id, Run.batch_id, Run.run_id, Result.status, Run.runner)
_DETAILS = (
    Run.source, Result.error, Result.cost, Result.version,
    Run.created_at, Result.completed_at, Result.fetched_at,
)  # fmt: skip

# Faster than `decode`, and NaN and the infinities are empty cells.
_parse = json.JSONDecoder(parse_constant=lambda _: None).raw_decode

Guard = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """Options that concern CSV alone.

    `formula_guard` quotes text that a spreadsheet would run, `details` adds the columns DETAILS,
    and `byte_order_mark` begins the file with one: Excel reads UTF-8 only then.
    """

    formula_guard: bool = True
    details: bool = False
    byte_order_mark: bool = False


def write_csv(
    snapshot: Snapshot, out: IO[bytes], progress: OnProgress, options: CsvOptions
) -> tuple[int, tuple[str, ...]]:
    """Write the header and all rows; return the number of rows and the header."""
    guard = guarded if options.formula_guard else unguarded
    fixed, facts = (FIXED + DETAILS, _FACTS + _DETAILS) if options.details else (FIXED, _FACTS)
    columns = _find_columns(snapshot, progress, fixed)
    header = columns.names(guard)
    out.write((BOM_UTF8 if options.byte_order_mark else b"") + _lines([header], unguarded))
    written = 0
    for page in snapshot.pages(facts, _DOCUMENTS):
        out.write(_lines(_rows(page, columns), guard))
        written += len(page)
        progress(written)
    return written, header


def _find_columns(snapshot: Snapshot, progress: OnProgress, fixed: tuple[str, ...]) -> Columns:
    columns = Columns(fixed)
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
        yield [
            *_facts(row[1:-2]),
            *map(given.get, columns.inputs),
            *map(output.get, columns.outputs),
        ]


def _facts(values: Record) -> Record:
    """Return the facts of a row as values of JSON: times as text, no signed URL in the error."""
    if len(values) == len(FIXED):
        return values
    *some, source, error, cost, version, created, completed, fetched = values
    times = (time and moment(time) for time in (created, completed, fetched))
    return [*some, source, without_signatures(error), cost, version, *times]


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
