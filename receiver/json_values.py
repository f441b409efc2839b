"""Reading the JSON of senders: strictly where it identifies an event, leniently everywhere else."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from math import isfinite

_WORD = re.compile(r"[\x21-\x7e]{1,200}")

DEEPEST = 200
"""Levels that stay where an answer has more than the parser takes; no report needs as many."""


def strictly(body: bytes, identity: frozenset[str]) -> dict[str, object] | None:
    """Parse a verified body, or return None for one that must not be trusted to name anything.

    A byte order mark at its start is left out, as RFC 8259 (8.1) allows.

    Refused: not UTF-8, not a JSON object, NaN and infinities, numbers of thousands of digits,
    nesting deeper than Python's parser goes, and a key of `identity` that stands twice in one
    object (two readers could each see another one).
    """
    try:
        text = body.decode("utf-8").removeprefix("\ufeff")  # `utf-8-sig` takes six times as long
        parsed = _STRICT.decode(text) if _plain(text, identity) else _watched(text, identity)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _plain(text: str, identity: frozenset[str]) -> bool:
    """Return True where the text alone proves that no key of the identity stands twice in it.

    Without a backslash a key can only be spelt in one way. Most bodies pass, and their parsing
    then calls no Python code for each object.
    """
    return "\\" not in text and all(text.count(key) < 2 for key in _quoted(identity))


@cache
def _quoted(identity: frozenset[str]) -> tuple[str, ...]:
    return tuple(f'"{name}"' for name in identity)


def _watched(text: str, identity: frozenset[str]) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        read = dict(pairs)
        if len(read) != len(pairs):
            names = [name for name, _ in pairs]
            if any(names.count(name) > 1 for name in identity):
                raise ValueError("a key of the identity stands twice")
        return read

    return json.loads(text, object_pairs_hook=once, parse_constant=_no_constant)


def leniently(body: bytes, *, politely: bool = False) -> object:
    """Parse an API's answer; NaN and infinities become None. Raises ValueError for no JSON.

    Python's parser takes neither numbers of thousands of digits nor very deep nesting: these become
    text, so that the rest of the answer can be read. `politely` lets other threads run after each
    object, which a plain parse does only at its end.
    """
    text = body.decode("utf-8-sig")
    try:
        return (_POLITE if politely else LENIENT).decode(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):
        return _tolerantly(text)


def _tolerantly(text: str) -> object:
    try:
        return _TOLERANT.decode(_flattened(text))
    except RecursionError as error:  # without its end it is no JSON, however deep
        raise ValueError("nested too deeply") from error


def _flattened(text: str) -> str:
    """Return JSON in which everything below DEEPEST levels is text, as it was written."""
    parts: list[str] = []
    depth = start = 0
    for found in _BRACKET.finditer(text):
        sign = found[0]
        if sign in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                parts.append(text[start : found.start()])
                start = found.start()
        elif sign in "]}":
            depth -= 1
            if depth == DEEPEST:
                parts.append(json.dumps(text[start : found.end()]))
                start = found.end()
    return "".join([*parts, text[start:]])


def _digits(number: str) -> int | str:
    try:
        return int(number)
    except ValueError:  # sys.set_int_max_str_digits
        return number


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_STRICT = json.JSONDecoder(parse_constant=_no_constant)
LENIENT = json.JSONDecoder(parse_constant=lambda _: None, strict=False)
# The scanner in C holds the interpreter's lock until it calls something that is written in Python.
_POLITE = json.JSONDecoder(
    parse_constant=lambda _: None, object_hook=lambda found: found, strict=False
)
_TOLERANT = json.JSONDecoder(
    parse_constant=lambda _: None,
    object_hook=lambda found: found,
    parse_int=_digits,
    strict=False,
)
# A bracket, or a text, whose brackets do not count. A text without its end matches up to the last
# character, so that no character is looked at twice.
_BRACKET = re.compile(r'[\[\]{}]|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def word(value: object) -> str | None:
    """Return an id or a status, which is printable ASCII of at most 200 characters; or None."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def text(value: object) -> str | None:
    """Return a non-empty string, or None."""
    return value if isinstance(value, str) and value else None


def number(value: object) -> float | None:
    """Return a finite number, or None; text and booleans are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return found if isfinite(found) else None  # 1e999 is JSON, and infinite


def whole(value: object) -> int | None:
    """Return a count, which may be written as text; or None."""
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 16:
        return int(value)
    found = number(value)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def moment(value: object) -> datetime | None:
    """Return an ISO 8601 string, or a Unix time in seconds or milliseconds, as UTC; or None."""
    try:
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        found = number(value)
        if found is None:
            return None
        return datetime.fromtimestamp(found / 1000 if found > 1e11 else found, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def items(value: object) -> Sequence[dict[str, object]]:
    """Return the objects in a list; anything else in it, or instead of it, is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def time_as_json(value: object) -> str:
    """Return a datetime as ISO 8601 in UTC: the `default` of `json.dumps`; TypeError for others."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is no JSON")


def counted(value: object) -> dict[str, int]:
    """Return the counts in an object, by their names; anything else is left out."""
    named = value.items() if isinstance(value, dict) else ()
    return {name: count for name, given in named if (count := whole(given)) is not None}
