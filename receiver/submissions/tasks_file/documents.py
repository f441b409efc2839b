"""The objects of a JSON or JSON Lines file, read strictly.

Refused are a name that stands twice, and what could not be sent as it is written.
"""

import io
import json
from decimal import Decimal, InvalidOperation
from typing import Any

from receiver.submissions.tasks_file.rows import Row, Rows, left_out, shown


def read_json(text: str) -> Rows:
    """Return the objects of a JSON list; raises ValueError that begins with the place."""
    parsed = _parsed(text, 1, "name it .jsonl if each line is a task")
    if not isinstance(parsed, list):
        raise ValueError("line 1: the tasks must be a JSON list of objects")
    items = enumerate(parsed, start=1)
    return Rows([_row(f"item {number}", item) for number, item in items], "JSON")


def read_json_lines(text: str) -> Rows:
    """Return the object of each line that is not blank, whatever ends the lines."""
    lines = list(enumerate(io.StringIO(text, newline=None), start=1))
    filled = [(number, line) for number, line in lines if line.strip()]
    hint = "name it .json if it is one list of tasks"
    rows = [_row(f"line {number}", _parsed(line.strip(), number, hint)) for number, line in filled]
    return Rows(rows, "JSON Lines", left_out(len(lines) - len(filled), "blank line"))


def _parsed(text: str, line: int, hint: str) -> Any:
    """Parse JSON that begins at a line; the hint is for a file that has the other form."""
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_float=_exact_float, parse_int=_exact_int
        )
    except json.JSONDecodeError as error:
        if text[error.pos :].strip() == ",":
            hint = "take the comma at the end away"
        is_known = error.msg == "Extra data" or text.strip() == "["
        what = f"{error.msg} at column {error.colno}" + (f": {hint}" if is_known else "")
        raise ValueError(f"line {line + error.lineno - 1}: not valid JSON: {what}") from None
    except RecursionError:
        raise ValueError(f"line {line}: it is nested too deeply") from None


def _row(place: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: a task must be a JSON object")
    for name, value in row.items():
        if not name.strip() and value not in (None, ""):
            raise ValueError(f"{place}: the value {shown(value)} has no name")
    try:
        if (fault := _fault(row)) is not None:
            raise ValueError(f"{place}: {fault}")
        _check_sendable(place, row)
    except RecursionError:
        raise ValueError(f"{place}: it is nested too deeply") from None
    return place, {name: value for name, value in row.items() if name.strip()}


def _check_sendable(place: str, row: Any) -> None:
    try:  # Python reads NaN, Infinity and lone surrogates, which no sender can be sent
        json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(f"{place}: it cannot be sent as JSON: {error}") from None


class _Repeating(dict[str, Any]):
    """An object in which a name stands twice."""

    name = ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        names = [name for name, _ in pairs]
        read = _Repeating(read)
        read.name = next(name for name in names if names.count(name) > 1)
    return read


class _Changed(str):
    """A number, as it is written, that Python would read as another one."""


def _exact_float(written: str) -> float | _Changed:
    try:
        read = float(written)
        return read if Decimal(written) == Decimal(repr(read)) else _Changed(written)
    except InvalidOperation:  # an exponent of more than eighteen digits
        return _Changed(written)


def _exact_int(written: str) -> int | _Changed:
    try:
        return int(written)
    except ValueError:  # thousands of digits
        return _Changed(written)


def _fault(value: Any) -> str | None:
    """Return what is wrong with a value, or with one inside it."""
    if isinstance(value, _Repeating):
        return f"the name {shown(value.name)} stands in one object twice"
    if isinstance(value, _Changed):
        return f"the number {shown(value)} would be rounded or lost: write it as text, in quotes"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((fault for each in inner if (fault := _fault(each)) is not None), None)
