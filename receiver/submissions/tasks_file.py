"""Tasks of a batch, read from a CSV, JSON or JSON Lines file."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from receiver.errors import UsageError
from receiver.providers.capabilities.batches import CreatesBatches
from receiver.providers.model import NewTask

MAX_CELL_BYTES = 16 * 1024 * 1024

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_tasks(path: Path, provider: CreatesBatches) -> list[NewTask]:
    """Return all tasks of a file, in its order, for a provider.

    CSV has a header row; spaces around its names are dropped, and the provider's own names may be
    in any case (a spreadsheet may have `Query` or ` id`). JSON is a list of objects, JSON Lines one
    object a line. Raises UsageError that names the file, the line or item, and what is wrong.
    """
    readers = {".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".ndjson": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: write the tasks as .csv, .json or .jsonl.")
    tasks: list[NewTask] = []
    known: dict[str, str] = {}
    for place, row in reader(path, _text(path), provider):
        try:
            task = provider.new_task(row)
        except ValueError as error:
            raise UsageError(f"{path}, {place}: {error}.") from None
        if task.task_id is not None and task.task_id in known:
            raise UsageError(
                f"{path}, {place}: id {task.task_id!r} stands in {known[task.task_id]} already."
            )
        if task.task_id is not None:
            known[task.task_id] = place
        tasks.append(task)
    if not tasks:
        raise UsageError(f"{path} has no tasks: write at least one row.")
    return tasks


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.") from None
    except UnicodeDecodeError as error:
        where = f"at byte {error.start}"
        raise UsageError(f"{path} is not UTF-8 ({where}): save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None


Rows = Iterator[tuple[str, Mapping[str, Any]]]


def _csv(path: Path, text: str, provider: CreatesBatches) -> Rows:
    csv.field_size_limit(MAX_CELL_BYTES)
    # Not splitlines(): it also splits at U+2028 and others, which are part of a cell.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        reader.fieldnames = columns = [_column(name, provider) for name in header]
        needed = provider.required
        if needed is not None and needed not in columns:
            wrong = _separated_otherwise(header, needed)
            wrong = wrong or f"the header row has no column `{needed}`"
            raise UsageError(f"{path}, line 1: {wrong}.")
        for column in columns:
            if columns.count(column) > 1:
                raise UsageError(f"{path}, line 1: the column `{column}` stands there twice.")
        for row in reader:
            place = f"line {reader.line_num}"
            if None in row:
                raise UsageError(f"{path}, {place}: more cells than the header row has columns.")
            if None in row.values():
                raise UsageError(f"{path}, {place}: fewer cells than the header row has columns.")
            yield place, row
    except csv.Error as error:
        line = reader.reader.line_num  # the DictReader's line_num is that of the last good row
        unquoted = [text.partition("\n")[0].replace('"', "")] if line == 1 else []
        wrong = _separated_otherwise(unquoted, provider.required) or f"not valid CSV: {error}"
        raise UsageError(f"{path}, line {line}: {wrong}.") from None


def _column(name: str, provider: CreatesBatches) -> str:
    """Return a column's name; only names that the provider knows are made lower case."""
    name = name.strip()
    return name.lower() if name.lower() in provider.columns else name


def _separated_otherwise(header: Sequence[str], needed: str | None) -> str | None:
    """Return what is wrong where another separator would give the needed column, else None."""
    for separator, name in OTHER_SEPARATORS.items():
        cells = [part.strip().lower() for cell in header for part in cell.split(separator)]
        if needed is not None and needed in cells:
            return f"the columns are separated by {name}: save it with commas between them"
    return None


def _json(path: Path, text: str, provider: CreatesBatches) -> Rows:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(parsed, list):
        raise UsageError(f"{path}: the tasks must be a JSON list of objects.")
    for number, row in enumerate(parsed, start=1):
        yield f"item {number}", _object(path, f"item {number}", row)


def _jsonl(path: Path, text: str, provider: CreatesBatches) -> Rows:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, {place}: not valid JSON: {error}.") from None
        yield place, _object(path, place, row)


def _object(path: Path, place: str, row: Any) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise UsageError(f"{path}, {place}: a task must be a JSON object.")
    try:  # Python reads NaN, Infinity and lone surrogates, which no sender can be sent
        json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise UsageError(f"{path}, {place}: it cannot be sent as JSON: {error}.") from None
    return row
