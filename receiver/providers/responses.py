"""Judging answers where senders agree: statuses, and the words that name the cause."""

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from receiver.errors import (
    FetchError,
    Forbidden,
    Missing,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
    Unreadable,
)
from receiver.json_values import number
from receiver.providers.model import Answer

MEANINGS: dict[int, type[FetchError]] = {
    401: SourceRefused,
    402: SourceRefused,
    403: Forbidden,
    404: Missing,
    408: Unavailable,
    409: NotReady,
    410: Missing,
    425: NotReady,
    429: RateLimited,
}
"""The error for a status; every other 4xx with JSON is Refused, everything else Unavailable."""


def judge(answer: Answer, *, now: float) -> None:
    """Return for a success that is JSON; raise the FetchError that the answer means otherwise."""
    if answer.status >= 300 or not isinstance(answer.data, dict | list):
        raise _meaning(answer)(described(answer), retry_after=_retry_after(answer, now))


def _meaning(answer: Answer) -> type[FetchError]:
    if answer.status < 300:
        return Unreadable
    if answer.status == 408 and answer.waited:
        return NotReady
    if answer.status == 403 and answer.data is None:  # a firewall's page, shown to everybody
        return Unavailable
    is_refusal = 400 <= answer.status < 500 and answer.data is not None
    return MEANINGS.get(answer.status, Refused if is_refusal else Unavailable)


def described(answer: Answer) -> str:
    """Return the status and the sender's own words, uncut: Calls hides the key, and then cuts."""
    kind = "" if isinstance(answer.data, dict | list) else ", which is no JSON"
    words = _words(answer.data)
    return f"the sender answered {answer.status}{kind}: {words}".rstrip(": ")


def part(value: str) -> str:
    """Return an id as a segment of a path."""
    return quote(value, safe="")


def _retry_after(answer: Answer, now: float) -> float | None:
    """Return the seconds to wait that stand in the header, or else in the body."""
    seconds = parse_retry_after(answer.headers.get("retry-after"), now=now)
    if seconds is None and isinstance(answer.data, dict):
        return number(answer.data.get("retry_after"))
    return seconds


def _words(data: object) -> str:
    """Return `message`, `error` or `detail`: a text, an object with one of these, or a list."""
    if isinstance(data, list):
        return "; ".join(filter(None, map(_words, data[:5])))
    if not isinstance(data, dict):
        return data if isinstance(data, str) else ""
    for name in ("message", "error", "detail", "msg"):
        if data.get(name):
            return _words(data[name]) or str(data[name])
    return ""


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return a Retry-After header as seconds from `now`, or None for anything that is not one.

    Takes seconds (also with decimals, which some senders write) and the HTTP dates of RFC 9110;
    a date in the past is 0. Never raises.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    if not 12 <= len(text) <= 64:
        return None
    try:
        date = parsedate_to_datetime(text)
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
