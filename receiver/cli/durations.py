"""Durations and moments as they are written on the command line."""

import re
from datetime import UTC, datetime, timedelta

from receiver.errors import UsageError

DAYS_AT_MOST = 3650

_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def spoken(span: timedelta) -> str:
    """Return a duration as a person says it, in the largest unit that is twice in it: `14 min`."""
    seconds = round(span.total_seconds())
    for unit, name in _UNITS:
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def end_of_old(keep: str | None, until: str | None, *, now: datetime) -> datetime:
    """Return when old secrets end: `keep` from now, or `until`; by default a day from now.

    Raises UsageError for both together, for what is neither, and for a moment that has passed.
    """
    if keep is not None and until is not None:
        raise UsageError("Say either --keep or --until, not both.")
    if until is not None:
        moment = _moment("--until", until)
        if moment <= now:
            raise UsageError(
                f"--until {until!r} has passed: --keep 0 ends the old secrets at once."
            )
        return moment
    return now + duration("--keep", "24h" if keep is None else keep)


def duration(option: str, text: str) -> timedelta:
    """Return a duration such as 90m or 7d; raises UsageError that names the option."""
    if text == "0":
        return timedelta()
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {text!r} is no duration: write it like 90m, 24h or 7d, or 0.")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > DAYS_AT_MOST * 86400:
        raise UsageError(f"{option} {text!r} is too long: {DAYS_AT_MOST}d at most.")
    return timedelta(seconds=seconds)


def ago(option: str, text: str, *, now: datetime) -> datetime:
    """Return the moment so long before now, such as 2h or 7d, or the moment that is written out."""
    if _DURATION.fullmatch(text) or text == "0":
        return now - duration(option, text)
    try:
        return _moment(option, text)
    except UsageError:
        raise UsageError(
            f"{option} {text!r} is no time: write it like 90m, 2h or 7d (ago), or like "
            "2026-12-01T00:00:00Z."
        ) from None


def _moment(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(
            f"{option} {text!r} is no moment with a zone: write it like 2026-12-01T00:00:00Z."
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{option} {text!r} is out of all time.") from None
