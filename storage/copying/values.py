"""Values of a copy: cleaned of what a database refuses, and digested in canonical form."""

import json
import marshal
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Float, LargeBinary, String, Table

from storage.copying.sides import Row, kind
from storage.json_text import UNSTORABLE, clean

Clean = Callable[[Any], Any]

# Escapes of the same, and numbers that are no JSON. A text that only looks so is kept as it is.
_SUSPICIOUS = ("\\u0000", "\\ud", "\\uD", "NaN", "Infinity")


class Cleaner:
    """Cleans the rows of `table`; `count` is the number of values that it has changed.

    NUL and lone surrogates in text become U+FFFD, as they do when results are stored; NaN and
    infinities become null. Rows that older versions stored may hold them.
    """

    def __init__(self, table: Table) -> None:
        self.count = 0
        named = ((at, _cleaning(column)) for at, column in enumerate(table.columns))
        self._cleaning = [(at, cleaned) for at, cleaned in named if cleaned is not None]

    def cleaned(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            changed = None
            for at, cleaned in self._cleaning:
                if (before := row[at]) is not None and (after := cleaned(before)) is not before:
                    changed = list(row) if changed is None else changed
                    changed[at] = after
                    self.count += 1
            yield row if changed is None else changed


def _cleaning(column: Column[Any]) -> Clean | None:
    """Return the cleaner of a column, which returns the same object for a clean value."""
    its = kind(column)
    if isinstance(its, JSON):
        return _clean_json
    if isinstance(its, String):
        return _clean_text
    return _clean_number if isinstance(its, Float) else None


def _clean_text(text: str) -> str:
    if text.isascii() and "\0" not in text:  # a quick answer for most texts
        return text
    return UNSTORABLE.sub("�", text) if UNSTORABLE.search(text) else text


def _clean_number(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _clean_json(text: str) -> str:
    """Clean a JSON text; a clean one stays as it is written."""
    text = _clean_text(text)
    if not any(sign in text for sign in _SUSPICIOUS):
        return text
    before = json.loads(text)
    after = _finite(clean(before))
    return text if after == before else json.dumps(after)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return _clean_number(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


class Digest:
    """A digest over rows of `table`, the same for the same values on every kind of database.

    `read` has other readers of columns, by name. A document is digested by its text.
    """

    def __init__(self, table: Table, read: dict[str, Callable[[Any], Any]]) -> None:
        self.count = 0
        self._hash = blake2b(digest_size=32)
        named = (
            (at, read.get(column.name) or _reading(column))
            for at, column in enumerate(table.columns)
        )
        self._readings = [(at, reading) for at, reading in named if reading is not None]

    def seen(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Digest rows, and pass them on."""
        for row in rows:
            self.add(row)
            yield row

    def add(self, row: Row) -> None:
        values = list(row)
        for at, reading in self._readings:
            if values[at] is not None:
                values[at] = reading(values[at])
        self.count += 1
        # Version 2 writes lengths and values, without references between them.
        self._hash.update(marshal.dumps(values, 2))

    @property
    def value(self) -> bytes:
        return self._hash.digest()


def _reading(column: Column[Any]) -> Callable[[Any], Any] | None:
    its = kind(column)
    if isinstance(its, DateTime):
        return datetime.isoformat
    if isinstance(its, Float):
        return _plain_zero
    if isinstance(its, LargeBinary):
        return _as_bytes
    return None


def _plain_zero(number: float) -> float:
    """SQLite keeps no negative zero."""
    return number + 0.0


def _as_bytes(value: bytes | str) -> bytes:
    """SQLite keeps text in a column of bytes, too, where somebody wrote it there by hand."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
