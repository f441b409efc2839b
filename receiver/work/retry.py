"""When is a failed try made again? Error and numbers in, a decision out; no clock, no dice.

    Unavailable     2 s doubling, full jitter, at most 1 h, for 7 days; counted
    RateLimited     when the sender says, else 5 s growing to 5 min; not counted
    NotReady        5 s growing to 5 min, for 7 days; not counted
    Missing         2 s doubling to 1 min, full jitter, for 15 minutes; counted
    Refused         buried at once
    SourceRefused   the source is paused; one probe after 1 min, then rarer; not counted

Nothing is given up by the clock alone, which may jump: at least five tries in vain come first.
A sender's Retry-After wins where it is longer, up to an hour. An error of an unknown kind is
treated as Unavailable: trying again is the mistake that can be mended.
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
FEWEST_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again after so many seconds; `counts` says whether this was a failure of ours."""

    after: float
    counts: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Bury:
    """Give up: a dead letter, which a person can replay."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop the whole source and send one probe after so many seconds; the job loses nothing."""

    after: float
    reason: str


Decision = RetryLater | Bury | Pause


def decide(error: FetchError, *, failures: int, waits: int, age: float, jitter: float) -> Decision:
    """What to do after a failed try.

    `failures` were counted before this one; `waits` answers in a row said "not yet" before this
    one; `age` is seconds since we try in vain; `jitter` is uniform in [0, 1).
    """
    reason = str(error)
    tries = failures + waits + 1
    match error:
        case Refused():
            return Bury(reason)
        case SourceRefused():
            return Pause(_at_least(error, PROBE_AFTER), reason)
        case RateLimited():
            return RetryLater(_asked(error) or _wait(waits, jitter), counts=False, reason=reason)
        case NotReady() if not is_over(age, GIVE_UP, tries):
            return RetryLater(_at_least(error, _wait(waits, jitter)), counts=False, reason=reason)
        case Missing():
            limit, cap = MISSING_GIVE_UP, 60.0
        case _:
            limit, cap = GIVE_UP, HOUR
    if is_over(age, limit, tries):
        return Bury(f"{reason} (given up after {_span(limit)})")
    backoff = jitter * _doubled(2.0, failures, cap)
    return RetryLater(_at_least(error, backoff), counts=True, reason=reason)


def is_over(age: float, limit: float, tries: int) -> bool:
    """Whether patience has ended: by the clock, and by tries enough for it to have run."""
    return not age < limit and tries >= FEWEST_TRIES


def _doubled(first: float, times: int, cap: float) -> float:
    return min(first * 2.0 ** max(0, min(times, 30)), cap)


def _wait(waits: int, jitter: float) -> float:
    """From 5 s to 5 min: never sooner than half the step, so that asking stays polite."""
    return _doubled(10.0, waits, 300.0) * (1 + jitter) / 2


def _asked(error: FetchError) -> float:
    """What the sender asked for, kept between nothing and an hour."""
    asked = error.retry_after
    if asked is None or math.isnan(asked):
        return 0.0
    return min(max(asked, 0.0), LONGEST)


def _at_least(error: FetchError, computed: float) -> float:
    return max(_asked(error), computed)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < HOUR else f"{seconds / HOUR / 24:.0f} days"
