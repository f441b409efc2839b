"""Log lines: readable on a terminal, JSON otherwise; one format for structlog and for `logging`.

Every line has `timestamp` (UTC, ISO 8601), `level`, `logger` and `event`, then what was said. As a
second wall, configured secrets (`hide`) and what looks like one never come out (`redact`); the
first wall is not to log them. Importing this does nothing; `configure` is called by whoever
composes the program.

JSON lines to a file or pipe are written by a thread, at most BATCH seconds late: a write lets go of
the GIL, and on the path of a delivery that would hand the processor to the database's thread once
a line. `kill -9` loses what is younger than that; an ordinary exit loses nothing.
"""

import json as json_
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Final, TextIO, cast

import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from receiver.telemetry.line_writer import LineWriter, is_file

MAX_TEXT: Final = 16_000
MAX_DEPTH: Final = 5
HIDDEN: Final = "[hidden]"
SHORTEST_SECRET: Final = 8
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

# These log every request with its URL, and a signed URL is a secret.
_NOISY: Final = ("httpx", "httpcore", "uvicorn.access", "alembic")
# uvicorn gives these handlers of their own unless it is started with log_config=None.
_CAPTURED: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")

_OURS: Final = ("timestamp", "level", "logger")
_SECRET_NAME: Final = re.compile(
    r"secret|api_?key|private_?key|authorization|cookie|password|passphrase|signature|token|body"
    r"|credential",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"(?<=\S\?)[^\s\"'<>]+"  # a query string, of a whole URL or of a path alone
    r"|(?<=://)[^\s/@\"']+(?=@)"  # user and password in a URL
    r"|(?<=whsec_)[A-Za-z0-9+/=_-]+"
    r"|(?<=[Bb]earer )[A-Za-z0-9+/=._~-]{8,}"
    r"|(?<=\bval_)[A-Za-z0-9_-]{8,}"  # Valyu's API keys
    r"|(?<=\brs_)[A-Za-z0-9_-]{40,}"  # our own tokens
)


def configure(
    *, json: bool | None = None, level: str = "info", stream: TextIO | None = None
) -> None:
    """Send all logging of this process to `stream` (standard error), from `level` on.

    `json` None means JSON unless the stream is a terminal. May be called again; a logger that has
    already written keeps its level. ValueError for an unknown level.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"unknown log level {level!r}: use one of {', '.join(LEVELS)}")
    stream = sys.stderr if stream is None else stream
    as_json = not stream.isatty() if json is None else json
    number = logging.getLevelNamesMapping()[level.upper()]
    _OUTPUT.open(stream, late=as_json and is_file(stream))
    _OUTPUT.takes_info = number <= logging.INFO
    _PROCESSORS[:] = [_to_json] if as_json else [redact, _terminal(stream.isatty())]
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    _capture_standard_logging(number)


def hide(secrets: Iterable[str]) -> None:
    """Let none of these texts out from now on, wherever it stands.

    One below SHORTEST_SECRET is let through: it is none, and would blot out ordinary words.
    """
    worthy = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
    _CONFIGURED[:] = sorted(worthy, key=len, reverse=True)  # one may be a part of another


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `logger=name`; may be made at import, as nothing happens yet."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def often(log: FilteringBoundLogger, name: str, event: str, *fields: str) -> Callable[..., None]:
    """What `log.info(event, ...)` writes, for a line that is written for every delivery.

    Takes the values of `fields` in their order. All that is the same in each line is prepared; the
    way through structlog, which costs more than the line, is gone only where lines are JSON.
    """
    labels = [_label(field) for field in fields]
    start = f'"level":"info","logger":{_quote(name)},"event":{_quote(_scrub(event))}'

    def say(*values: object) -> None:
        if not (_OUTPUT.takes_info and _PROCESSORS[:1] == [_to_json]):
            log.info(event, **dict(zip(fields, values, strict=True)))
            return
        said = [
            label + _json(field, value, secret)
            for field, value, (secret, _, label) in zip(fields, values, labels, strict=True)
        ]
        _OUTPUT.write(f'{{"timestamp":"{_now()}",{start}{"".join(said)}}}')

    return say


def flush() -> None:
    """Write now what waits to be written."""
    _OUTPUT.flush()


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Hide text under secret-looking names, query strings, and text that looks like a secret.

    Numbers stay under any name (`body_bytes`, `secret_id`). What comes out is plain JSON data.
    """
    line: dict[str, Any] = {"timestamp": _now(), "level": method, "logger": _name(logger)}
    for name, value in _ordered(event).items():
        line[_label(name)[1]] = _clean(name, value, 0)
    return line


def _to_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """`redact` and JSON in one pass, because a line is written for every delivery."""
    parts = [f'{{"timestamp":"{_now()}","level":"{method}","logger":{_quote(_name(logger))}']
    for name, value in _ordered(event).items():
        secret, _, label = _label(name)
        parts.append(label + _json(name, value, secret))
    return "".join(parts) + "}"


def _json(name: str, value: object, secret: bool) -> str:
    if type(value) is str:
        return _quote(HIDDEN if secret else _scrub(value))
    if type(value) is int:
        return str(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)
    return _ENCODE(_clean(name, value, 0))


# One encoder for all lines: json.dumps builds one a call when it is given options.
_ENCODE: Final[Callable[[object], str]] = json_.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=1024)
def _label(name: str) -> tuple[bool, str, str]:
    """Does this name mean a secret; what it is called in a line; the same as JSON."""
    called = f"{name}_" if name in _OURS else name
    return _SECRET_NAME.search(name) is not None, called, f",{_quote(called)}:"


def _name(logger: WrappedLogger) -> str:
    return getattr(logger, "name", None) or "root"


def _ordered(event: EventDict) -> EventDict:
    """The event first, as text, and a traceback in place of an exception."""
    if "exc_info" in event:
        event = format_exc_info(None, "", event)
    return {"event": event.pop("event", ""), **event}


def _now() -> str:
    now = time.time()
    second = int(now)
    return f"{_second(second)}.{int((now - second) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _scrub(text: str) -> str:
    for secret in _CONFIGURED:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... ({len(text)} characters)"
    # Written out, for this runs for every text of every line.
    if (
        "?" in text
        or "@" in text
        or "earer " in text
        or "whsec_" in text
        or "val_" in text
        or "rs_" in text
    ):
        return _SECRET_TEXT.sub(HIDDEN, text)
    return text


def _clean(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int):
        return value  # a number under any name is a count, a size or a key of ours
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if _label(name)[0] or depth > MAX_DEPTH:
        return HIDDEN
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item, depth + 1) for item in value]
    return _scrub(str(value))


def _terminal(colors: bool) -> Processor:
    """The readable form; what came from outside must not steer the terminal."""
    render = structlog.dev.ConsoleRenderer(
        colors=colors, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )

    def to_terminal(logger: WrappedLogger, method: str, line: EventDict) -> str:
        shown = {
            name: "\n".join(map(_printable, value.split("\n")))
            if name == "exception"
            else _printable(value)
            for name, value in line.items()
        }
        return render(logger, method, shown)

    return to_terminal


def _printable(value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in value
    )


class _Lines:
    """What structlog calls a logger: takes finished lines."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = _OUTPUT.write


class _Bridge(logging.Handler):
    """Takes the records of the standard library's loggers into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit the format
            text = str(record.msg)
        line: Any = {"event": text, "exc_info": record.exc_info}
        for process in _PROCESSORS:
            line = process(record, record.levelname.lower(), line)
        _OUTPUT.write(line)


def _capture_standard_logging(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, _Bridge)]
    root.addHandler(_Bridge())
    root.setLevel(level)
    for name in _CAPTURED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


_OUTPUT: Final = LineWriter()
_CONFIGURED: Final[list[str]] = []
_PROCESSORS: Final[list[Processor]] = []  # one list for good: cached loggers keep hold of it
