"""JSON: an array, or one object per line, with every key of KEYS in each object.

JSON columns are spliced in as the text that is stored: nothing is parsed, nothing is rounded. Times
are ISO 8601 in UTC with microseconds and a Z; the digest is hexadecimal.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from json.encoder import encode_basestring as quoted
from typing import IO

from storage.export.cells import moment
from storage.export.rows import OnProgress, Record, Snapshot
from storage.models import Result, Run
from storage.presigned_urls import without_signatures

KEYS = (
    "source", "batch_id", "run_id", "task_id", "status", "runner", "input", "output", "sources",
    "error", "cost", "version", "digest", "created_at", "completed_at", "fetched_at", "raw",
)  # fmt: skip

_FACTS = (
    Run.source, Run.batch_id, Run.run_id, Run.task_id, Result.status, Run.runner,
    Result.error, Result.cost, Result.version, Result.digest,
    Run.created_at, Result.completed_at, Result.fetched_at,
)  # fmt: skip
_DOCUMENTS = (Run.input, Result.output, Result.sources, Result.raw)
_ENDS_OF_LINES = {char: f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}
_OBJECT = "{" + ", ".join(f'"{key}": %s' for key in KEYS) + "}"


def write_json_lines(snapshot: Snapshot, out: IO[bytes], progress: OnProgress) -> int:
    """Write one object per line, each line ended by LF; return the number of objects."""
    written = 0
    for objects in _pages(snapshot):
        out.write(_lines(objects))
        written += len(objects)
        progress(written)
    return written


def json_lines(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the same lines, a page at a time."""
    for objects in _pages(snapshot):
        yield _lines(objects)


def _lines(objects: list[str]) -> bytes:
    return _encoded("\n".join(objects) + "\n")


def _encoded(text: str) -> bytes:
    """Encode as UTF-8, with the characters escaped that many readers take for line ends.

    Python and httpx do so. These characters can only be in strings, where their escapes are the
    same JSON. It costs next to nothing: Python does not search texts of small code points.
    """
    for char, escaped in _ENDS_OF_LINES.items():
        text = text.replace(char, escaped)
    return text.encode()


def write_json(snapshot: Snapshot, out: IO[bytes], progress: OnProgress) -> int:
    """Write an array with one object per line; return the number of objects."""
    written = 0
    out.write(b"[")
    for objects in _pages(snapshot):
        out.write(_encoded((",\n" if written else "\n") + ",\n".join(objects)))
        written += len(objects)
        progress(written)
    out.write(b"\n]\n")
    return written


def _pages(snapshot: Snapshot) -> Iterator[list[str]]:
    for page in snapshot.pages(_FACTS, _DOCUMENTS):
        yield [_object(row) for row in page]


def _object(row: Record) -> str:
    (
        _, source, batch_id, run_id, task_id, status, runner,
        error, cost, version, digest, created_at, completed_at, fetched_at,
        given, output, sources, raw,
    ) = row  # fmt: skip
    return _OBJECT % (
        quoted(source),
        _text(batch_id),
        quoted(run_id),
        _text(task_id),
        quoted(status),
        _text(runner),
        _spliced(given),
        _spliced(output),
        _spliced(sources),
        _text(without_signatures(error)),
        _spliced(None if cost is None else json.dumps(cost)),
        version,
        quoted(digest.hex()),
        _time(created_at),
        _time(completed_at),
        _time(fetched_at),
        _spliced(raw),
    )


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _time(time: datetime | None) -> str:
    if time is None:
        return "null"
    return f'"{moment(time)}"'


def _spliced(text: str | None) -> str:
    """Return stored JSON text on one line; a line end in it can only be white space."""
    if text is None:
        return "null"
    if "NaN" in text or "Infinity" in text:
        text = _finite(text)
    return text.replace("\n", " ").replace("\r", " ")


def _finite(text: str) -> str:
    """Write null for NaN and the infinities, which Python reads and writes but JSON forbids."""
    met: list[str] = []
    value = json.loads(text, parse_constant=met.append)
    # Once more, since a number too large for a float has become an infinity by now.
    return _finite(json.dumps(value)) if met else text
