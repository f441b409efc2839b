"""Retry policy for failed attempts. Pure: an error and numbers in, a decision out.

    Unavailable     2 s doubling, full jitter, at most 1 h, for 7 days; counted
    RateLimited     when the sender says, else 5 s growing to 5 min; not counted
    NotReady        5 s growing to 5 min, for 7 days; not counted
    Missing         2 s doubling to 1 min, full jitter, for 15 minutes; counted
    Refused         buried at once
    SourceRefused   the source is paused; one probe after 1 min, then rarer; not counted

No job is buried by the clock alone, which may jump: at least five failed attempts come first.
A sender's Retry-After wins where it is longer, up to an hour. An error of an unknown kind is
treated as Unavailable: a needless attempt does less harm than a buried job.
"""

import math
from dataclasses import dataclass
from typing import Final

from receiver.errors import FetchError, Missing, NotReady, RateLimited, Refused, SourceRefused

HOUR: Final = 3600.0
LONGEST: Final = HOUR
GIVE_UP: Final = 7 * 24 * HOUR
MISSING_GIVE_UP: Final = 15 * 60.0
PROBE_AFTER: Final = 60.0
FEWEST_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Retry after so many seconds; `counts` is True where the attempt counts as a failure."""

    after: float
    counts: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Bury:
    """Give up: the job becomes a dead letter, which a person can replay."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the whole source and probe it after so many seconds; the job counts no failure."""

    after: float
    reason: str


Decision = RetryLater | Bury | Pause


def decide(error: FetchError, *, failures: int, waits: int, age: float, jitter: float) -> Decision:
    """Decide what follows a failed attempt.

    failures: counted failures before this one. waits: attempts in a row before this one that were
    not counted. age: seconds since the first attempt in vain. jitter: uniform in [0, 1).
    """
    reason = str(error)
    attempts = failures + waits + 1
    match error:
        case Refused():
            return Bury(reason)
        case SourceRefused():
            return Pause(_at_least(error, PROBE_AFTER), reason)
        case RateLimited():
            return RetryLater(
                _retry_after(error) or _wait(waits, jitter), counts=False, reason=reason
            )
        case NotReady() if not is_over(age, GIVE_UP, attempts):
            return RetryLater(_at_least(error, _wait(waits, jitter)), counts=False, reason=reason)
        case Missing():
            limit, cap = MISSING_GIVE_UP, 60.0
        case _:
            limit, cap = GIVE_UP, HOUR
    if is_over(age, limit, attempts):
        return Bury(f"{reason} (given up after {_span(limit)})")
    backoff = jitter * _doubled(2.0, failures, cap)
    return RetryLater(_at_least(error, backoff), counts=True, reason=reason)


def is_over(age: float, limit: float, attempts: int) -> bool:
    """Return True once `limit` seconds have passed and enough attempts were made meanwhile."""
    return not age < limit and attempts >= FEWEST_ATTEMPTS


def _doubled(first: float, times: int, cap: float) -> float:
    return min(first * 2.0 ** max(0, min(times, 30)), cap)


def _wait(waits: int, jitter: float) -> float:
    """Return 5 s growing to 5 min, of which jitter adds no more than half."""
    return _doubled(10.0, waits, 300.0) * (1 + jitter) / 2


def _retry_after(error: FetchError) -> float:
    """Return the sender's Retry-After, kept between 0 s and an hour; 0 s where it gave none."""
    seconds = error.retry_after
    if seconds is None or math.isnan(seconds):
        return 0.0
    return min(max(seconds, 0.0), LONGEST)


def _at_least(error: FetchError, computed: float) -> float:
    return max(_retry_after(error), computed)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < HOUR else f"{seconds / HOUR / 24:.0f} days"
