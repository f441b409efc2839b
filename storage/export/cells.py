"""One value as one cell of a CSV file."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

# What spreadsheets run as a formula, also in full width and after the blanks that they trim, and
# control characters that some of them skip: https://owasp.org/www-community/attacks/CSV_Injection.
_FORMULA = re.compile(r"[\t\r\n]|[\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def guarded(text: str) -> str:
    """Put a single quote before text that a spreadsheet would run as a formula.

    Text that is a plain number ("-5", "+1.5e3") cannot run anything and stays.
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def unguarded(text: str) -> str:
    """Return text as it is, for readers that are no spreadsheets."""
    return text


def moment(time: datetime) -> str:
    """Return a time of the database as ISO 8601 in UTC, with microseconds and a Z."""
    return f"{time.isoformat(timespec='microseconds').removesuffix('+00:00')}Z"


def writers(guard: Callable[[str], str]) -> dict[type, Callable[[Any], str]]:
    """Return a writer of cells for each type of JSON value, with quotes where RFC 4180 has them.

    Text goes through `guard`. Numbers stay, null is an empty cell, true and false are words, lists
    and objects are compact JSON text.
    """

    def text(value: str) -> str:
        return _quoted(value if value[:1].isalnum() else guard(value))

    def nested(value: Any) -> str:
        return _quoted(_compact(value))

    return {
        str: text,
        type(None): lambda _: "",
        bool: {True: "true", False: "false"}.__getitem__,
        int: int.__repr__,
        float: float.__repr__,
        list: nested,
        dict: nested,
    }


def _quoted(text: str) -> str:
    # By hand, since csv.writer looks at each character in turn: a third of the whole export.
    if '"' in text:
        return '"' + text.replace('"', '""') + '"'
    if "," in text or "\n" in text or "\r" in text:
        return '"' + text + '"'
    return text
