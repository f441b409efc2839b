"""decide() for checks: slower than other jobs, for a month, and never slower than it must be."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.errors import FetchError, Missing, NotReady, RateLimited, SourceRefused, Unavailable
from receiver.work.check_schedule import CHECK_LONGEST, decide
from receiver.work.retry import Bury, Pause, RetryLater
from storage import FIRST_CHECK, Lease

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FIRST, LONGEST, DAY = FIRST_CHECK.total_seconds(), CHECK_LONGEST.total_seconds(), 86_400.0


def after(
    error: FetchError, *, days: float = 0, kind: str = "check", **given: Any
) -> RetryLater | Bury | Pause:
    """The decision on a job that has been tried in vain for so many days."""
    since = NOW - timedelta(days=days)
    lease = Lease(
        **{
            "job_id": 1,
            "token": "t",
            "kind": kind,
            "source": "valyu",
            "subject": "b",
            "subject_kind": "batch",
            "endpoint_id": None,
            "event_id": None,
            "progress": {},
            "failures": 0,
            "waits": 0,
            "created_at": since,
            "trying_since": since,
            "missing_since": since,
            **given,
        }
    )
    return decide(lease, error, NOW)


def seconds(error: FetchError, **given: Any) -> float:
    decision = after(error, **given)
    assert isinstance(decision, RetryLater)
    return decision.after


@pytest.mark.parametrize(
    ("waits", "expected"),
    [(0, FIRST), (1, 2 * FIRST), (7, 128 * FIRST), (8, LONGEST), (99, LONGEST)],
)
def test_waits_of_a_check_double_to_a_limit(waits: int, expected: float) -> None:
    assert seconds(NotReady("not yet"), waits=waits) == expected
    assert after(NotReady("not yet"), waits=waits) == RetryLater(expected, False, "not yet")


def test_steady_check_does_not_slow_down() -> None:
    assert seconds(NotReady("running"), waits=9, progress={"every": 60.0}) == 60.0


@pytest.mark.parametrize(("retry_after", "first"), [(5.0, 5.0), (FIRST * 2, FIRST)])
def test_shorter_retry_after_starts_the_schedule(retry_after: float, first: float) -> None:
    almost = NotReady("almost", retry_after=retry_after)
    assert seconds(almost) == first
    assert seconds(almost, waits=2) == 4 * first


@pytest.mark.parametrize("error", [Unavailable("502"), RateLimited("429")])
def test_check_after_an_outage_waits_like_others(error: FetchError) -> None:
    assert seconds(error) <= 10
    assert seconds(error, failures=99, waits=99) <= 3600


def test_outage_does_not_put_off_steady_check() -> None:
    down = Unavailable("503", retry_after=3600.0)
    assert seconds(down, progress={"every": 60.0}) == 60.0


@pytest.mark.parametrize(("error", "counts"), [(Unavailable("502"), True), (Missing("404"), False)])
def test_only_outages_are_failures_of_a_check(error: FetchError, counts: bool) -> None:
    decision = after(error)
    assert isinstance(decision, RetryLater)
    assert decision.counts is counts


@pytest.mark.parametrize("error", [NotReady("running"), Missing("404"), Unavailable("502")])
@pytest.mark.parametrize(
    ("days", "waits", "is_buried"), [(29, 99, False), (30, 99, True), (30, 3, False), (30, 4, True)]
)
def test_check_lasts_a_month_and_five_attempts(
    error: FetchError, days: float, waits: int, is_buried: bool
) -> None:
    decision = after(error, days=days, waits=waits)
    assert isinstance(decision, Bury) is is_buried
    if is_buried:
        assert decision.reason.endswith("(given up after 30 days)")


def test_account_refused_to_a_check_pauses_the_source() -> None:
    assert after(SourceRefused("401"), days=99, waits=99) == Pause(60.0, "401")


@pytest.mark.parametrize(("since_missing", "is_buried"), [(16, True), (14, False)])
def test_404_is_given_up_by_its_first_time(since_missing: float, is_buried: bool) -> None:
    missing_since = NOW - timedelta(minutes=since_missing)
    given: dict[str, Any] = {"days": 1, "failures": 9, "missing_since": missing_since}
    assert isinstance(after(Missing("404"), kind="fetch", **given), Bury) is is_buried
    assert not isinstance(after(Unavailable("502"), kind="fetch", **given), Bury)
