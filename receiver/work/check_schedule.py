"""Decisions after a failed attempt, with the slower schedule of checks."""

import random
from datetime import datetime, timedelta

from receiver.errors import (
    FetchError,
    Missing,
    NotReady,
    RateLimited,
    Unavailable,
)
from receiver.work import retry
from receiver.work.retry import Bury, Pause, RetryLater, is_over
from storage import FIRST_CHECK, Lease

CHECK_LONGEST = timedelta(hours=6)
CHECK_GIVES_UP = timedelta(days=30)


def decide(
    lease: Lease, error: FetchError, now: datetime, *, first_check: timedelta = FIRST_CHECK
) -> RetryLater | Bury | Pause:
    """Decide what a failed attempt means: retry later, bury the job, or pause its source.

    `first_check` is the time before a check that grows with each further one.
    """
    since = lease.missing_since if isinstance(error, Missing) else lease.trying_since
    age = now - (since or now)
    decision = retry.decide(
        error,
        failures=lease.failures,
        waits=lease.waits,
        age=age.total_seconds(),
        jitter=random.random(),  # noqa: S311  jitter, not a secret
    )
    if lease.kind != "check" or isinstance(decision, Pause):
        return decision
    return _decide_check(lease, error, decision, now=now, first_check=first_check)


def _decide_check(
    lease: Lease,
    error: FetchError,
    decision: RetryLater | Bury,
    *,
    now: datetime,
    first_check: timedelta,
) -> RetryLater | Bury:
    """Decide by the schedule of checks, which go on for a month.

    After an outage or a 429 a check follows as soon as any other job would. Where the error names
    a time that is shorter than the schedule's, the schedule starts with that time.
    """
    age = now - (lease.trying_since or now)
    attempts = lease.failures + lease.waits + 1
    if is_over(age.total_seconds(), CHECK_GIVES_UP.total_seconds(), attempts):
        return Bury(f"{error} (given up after {CHECK_GIVES_UP.days} days)")
    every = lease.progress.get("every")
    first = first_check.total_seconds() if every is None else float(every)
    if isinstance(error, NotReady) and error.retry_after is not None:
        first = min(first, error.retry_after)
    doublings = 0 if every is not None else min(lease.waits, 10)
    after = min(first * 2.0**doublings, CHECK_LONGEST.total_seconds())
    if isinstance(error, Unavailable | RateLimited) and isinstance(decision, RetryLater):
        return RetryLater(min(after, decision.after), counts=decision.counts, reason=str(error))
    return RetryLater(after, counts=False, reason=str(error))
