"""The objects of a JSON or JSON Lines file, read strictly: no name twice, nothing unsendable."""

import io
import json
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
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        is_other = error.msg == "Extra data" or text.strip() == "["
        what = f"{error.msg} at column {error.colno}" + (f": {hint}" if is_other else "")
        raise ValueError(f"line {line + error.lineno - 1}: not valid JSON: {what}") from None
    except (ValueError, RecursionError):  # or it holds a number of thousands of digits
        raise ValueError(
            f"line {line}: not valid JSON: it is nested too deeply, or a number too long"
        ) from None


def _row(place: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: a task must be a JSON object")
    if (twice := _repeated(row)) is not None:
        raise ValueError(f"{place}: the name {shown(twice)} stands in one object twice")
    for name, value in row.items():
        if not name.strip() and value not in (None, ""):
            raise ValueError(f"{place}: the value {shown(value)} has no name")
    try:  # Python reads NaN, Infinity and lone surrogates, which no sender can be sent
        json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(f"{place}: it cannot be sent as JSON: {error}") from None
    return place, {name: value for name, value in row.items() if name.strip()}


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


def _repeated(value: Any) -> str | None:
    """Return a name that stands twice in an object, or in one inside it."""
    if isinstance(value, _Repeating):
        return value.name
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((name for each in inner if (name := _repeated(each)) is not None), None)
