"""Log lines: readable on a terminal, JSON otherwise; one format for structlog and for `logging`.

Every line has `timestamp` (UTC, ISO 8601), `level`, `logger` and `event`, then its fields, without
secrets (see redaction). Importing this does nothing; `configure` is called by whoever composes the
program.

JSON lines to a file or pipe are written by a thread, at most BATCH seconds late: a write lets go of
the GIL, and on the path of a delivery that would hand the processor to the database's thread once
a line. `kill -9` loses what is younger than that; an ordinary exit loses nothing.
"""

import json as json_
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TextIO, cast

import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from receiver.telemetry.line_writer import LineWriter, is_file
from receiver.telemetry.redaction import HIDDEN, clean, clean_text, hide, is_secret

__all__ = ["LEVELS", "configure", "flush", "for_command", "get_logger", "hide", "often", "redact"]

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

# These log every request with its URL, and a signed URL is a secret.
_NOISY: Final = ("httpx", "httpcore", "uvicorn.access", "alembic")
# uvicorn gives these handlers of their own unless it is started with log_config=None.
_CAPTURED: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")

_OURS: Final = ("timestamp", "level", "logger")

# One encoder for all lines: json.dumps builds one a call when it is given options. In place of
# the C function for text that json does not document stands json.dumps, where it is missing.
_ENCODE: Final[Callable[[object], str]] = json_.JSONEncoder(separators=(",", ":")).encode
_quote: Final[Callable[[str], str]] = getattr(json_.encoder, "encode_basestring_ascii", json_.dumps)


# --- configuring --------------------------------------------------------------------------------


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


@contextmanager
def for_command() -> Iterator[None]:
    """Log errors alone, and to standard error, while a command works that prints an outcome.

    Tracebacks are plain: the values of variables, such as stored results, are not shown.
    """
    before = structlog.get_config()
    structlog.configure(
        processors=[redact, _terminal(sys.stderr.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


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


class _Lines:
    """Takes finished lines in the place of structlog's logger."""

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


# --- logging ------------------------------------------------------------------------------------


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `logger=name`; may be called at import."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def often(log: FilteringBoundLogger, name: str, event: str, *fields: str) -> Callable[..., None]:
    """Return a function that writes `log.info(event, ...)`, for a line of every delivery.

    It takes the values of `fields` in their order. What is the same in each line is made once; the
    way through structlog, which costs more than the line, is spared only where lines are JSON.
    """
    labels = [(_label(field)[1], field, is_secret(field)) for field in fields]
    start = f'"level":"info","logger":{_quote(name)},"event":{_quote(clean_text(event))}'

    def say(*values: object) -> None:
        if not (_OUTPUT.takes_info and _PROCESSORS[:1] == [_to_json]):
            log.info(event, **dict(zip(fields, values, strict=True)))
            return
        line = f'{{"timestamp":"{_now()}",{start}'
        for (label, field, hidden), value in zip(labels, values, strict=True):
            line += label + _json(field, value, hidden)
        _OUTPUT.write(line + "}")

    return say


def flush() -> None:
    """Write now what waits to be written."""
    _OUTPUT.flush()


# --- formatting ---------------------------------------------------------------------------------


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Return the line's fields as plain JSON data, without secrets."""
    line: dict[str, Any] = {"timestamp": _now(), "level": method, "logger": _name(logger)}
    for name, value in _ordered(event).items():
        line[_label(name)[0]] = clean(name, value)
    return line


def _to_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """`redact` and JSON in one pass, because a line is written for every delivery."""
    parts = [f'{{"timestamp":"{_now()}","level":"{method}","logger":{_quote(_name(logger))}']
    for name, value in _ordered(event).items():
        parts.append(_label(name)[1] + _json(name, value, is_secret(name)))
    return "".join(parts) + "}"


def _json(name: str, value: object, hidden: bool) -> str:
    if type(value) is str:
        return _quote(HIDDEN if hidden else clean_text(value))
    if type(value) is int:
        return str(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)
    return _ENCODE(clean(name, value))


@lru_cache(maxsize=1024)
def _label(name: str) -> tuple[str, str]:
    """Return a field's name in a line, which may not be one of ours, and the name as JSON."""
    label = f"{name}_" if name in _OURS else name
    return label, f",{_quote(label)}:"


def _name(logger: WrappedLogger) -> str:
    return getattr(logger, "name", None) or "root"


def _ordered(event: EventDict) -> EventDict:
    """Return the event first, as text, and a traceback in place of an exception."""
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


def _terminal(colors: bool) -> Processor:
    """Return the readable form; text from outside must not steer the terminal."""
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


_OUTPUT: Final = LineWriter()
_PROCESSORS: Final[list[Processor]] = []  # one list for good: cached loggers keep hold of it
