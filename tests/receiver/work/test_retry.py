"""decide() as a table and as properties; parse_retry_after() on what senders write."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import (
    FetchError,
    Forbidden,
    Missing,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
)
from receiver.providers.responses import parse_retry_after
from receiver.work.retry import (
    FEWEST_ATTEMPTS,
    GIVE_UP,
    LONGEST,
    Bury,
    Decision,
    Pause,
    RetryLater,
    decide,
)

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
HALF = 0.5


def after(
    error: FetchError, *, failures: int = 0, waits: int = 0, jitter: float = HALF
) -> Decision:
    return decide(error, failures=failures, waits=waits, age=0, jitter=jitter)


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(0, 2), (1, 4), (2, 8), (10, 2048), (11, HOUR), (10**9, HOUR)]
)
def test_unavailable_doubles_with_full_jitter(failures: int, ceiling: float) -> None:
    error = Unavailable("502")
    assert after(error, failures=failures, jitter=0.0) == RetryLater(0.0, True, "502")
    assert after(error, failures=failures) == RetryLater(ceiling / 2, True, "502")


@pytest.mark.parametrize(("waits", "least"), [(0, 5), (1, 10), (4, 80), (5, 150), (10**9, 150)])
@pytest.mark.parametrize("kind", [NotReady, RateLimited])
def test_not_ready_waits_grow_uncounted(kind: type[FetchError], waits: int, least: float) -> None:
    assert after(kind("later"), waits=waits, jitter=0.0) == RetryLater(least, False, "later")
    assert after(kind("later"), waits=waits) == RetryLater(least * 1.5, False, "later")


@pytest.mark.parametrize("waits", [0, 1, 99])
@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(None, 60), (5, 60), (90, 90), (10**9, HOUR), (math.nan, 60)]
)
def test_refused_source_probed_after_minute(
    waits: int, retry_after: float | None, seconds: float
) -> None:
    error = SourceRefused("no credit", retry_after=retry_after)
    assert after(error, waits=waits) == Pause(seconds, "no credit")


@pytest.mark.parametrize(
    ("error", "age", "buried"),
    [
        (Refused("gone"), 0, True),
        (Missing("404"), 15 * MINUTE - 1, False),
        (Missing("404"), 15 * MINUTE, True),
        (Unavailable("502"), 7 * DAY - 1, False),
        (Unavailable("502"), 7 * DAY, True),
        (NotReady("running"), 7 * DAY - 1, False),
        (NotReady("running"), 7 * DAY, True),
        (RateLimited("429"), 99 * DAY, False),
        (SourceRefused("401"), 99 * DAY, False),
        (Forbidden("403"), 99 * DAY, False),
        (FetchError("of a kind nobody named"), DAY, False),
        (Unavailable("502"), math.nan, True),
        (Unavailable("the clock went back"), -DAY, False),
    ],
)
def test_each_kind_is_retried_for_its_own_time(error: FetchError, age: float, buried: bool) -> None:
    decision = decide(error, failures=FEWEST_ATTEMPTS, waits=0, age=age, jitter=HALF)
    assert isinstance(decision, Bury) is buried
    assert str(error) in decision.reason


@pytest.mark.parametrize("error", [Missing("404"), Unavailable("502"), NotReady("running")])
@pytest.mark.parametrize(
    ("failures", "waits", "buried"),
    [(0, 0, False), (3, 0, False), (1, 2, False), (4, 0, True), (2, 2, True), (0, 4, True)],
)
def test_clock_ahead_buries_nothing_before_five_attempts(
    error: FetchError, failures: int, waits: int, buried: bool
) -> None:
    decision = decide(error, failures=failures, waits=waits, age=800 * DAY, jitter=HALF)
    assert isinstance(decision, Bury) is buried


def test_dead_letter_says_how_long() -> None:
    decision = decide(Missing("404"), failures=9, waits=0, age=HOUR, jitter=HALF)
    assert decision == Bury("404 (given up after 15 minutes)")
    decision = decide(Unavailable("502"), failures=9, waits=0, age=8 * DAY, jitter=HALF)
    assert decision == Bury("502 (given up after 7 days)")


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        *((value, 1.0) for value in (None, 0.0, 0.5, -5.0, math.nan, -math.inf)),
        *((value, LONGEST) for value in (1e300, math.inf)),
        (30.0, 30.0),
    ],
)
def test_longer_retry_after_wins_capped(retry_after: float | None, seconds: float) -> None:
    error = Unavailable("503", retry_after=retry_after)
    assert after(error) == RetryLater(seconds, True, "503")


def test_rate_limited_waits_as_told() -> None:
    assert after(RateLimited("429", retry_after=1.5)) == RetryLater(1.5, False, "429")
    assert after(RateLimited("429", retry_after=0.0)) == RetryLater(7.5, False, "429")


def test_too_early_answer_obeys_its_retry_after() -> None:
    assert after(NotReady("409", retry_after=90.0)) == RetryLater(90.0, False, "409")
    assert after(NotReady("409", retry_after=1.0)) == RetryLater(7.5, False, "409")


def test_missing_is_retried_often() -> None:
    assert after(Missing("404"), failures=99, jitter=1.0) == RetryLater(60.0, True, "404")


errors = st.builds(
    lambda kind, retry_after: kind("x", retry_after=retry_after),
    st.sampled_from([FetchError, *FetchError.__subclasses__(), Forbidden]),
    st.none() | st.floats(),
)
counts = st.integers(0, 10**6)
jitters = st.floats(0, 1, exclude_max=True)


@given(error=errors, failures=counts, waits=counts, age=st.floats(), jitter=jitters)
def test_delays_are_bounded_and_positive(
    error: FetchError, failures: int, waits: int, age: float, jitter: float
) -> None:
    decision = decide(error, failures=failures, waits=waits, age=age, jitter=jitter)
    if not isinstance(decision, Bury):
        assert 0 <= decision.after <= LONGEST


@given(error=errors, failures=counts, waits=counts, jitter=jitters, age=st.floats(0, GIVE_UP / 2))
def test_more_failures_never_mean_sooner(
    error: FetchError, failures: int, waits: int, jitter: float, age: float
) -> None:
    first = decide(error, failures=failures, waits=waits, age=age, jitter=jitter)
    later = decide(error, failures=failures + 1, waits=waits + 1, age=age, jitter=jitter)
    assert type(first) is type(later) or isinstance(later, Bury)
    if not isinstance(first, Bury) and not isinstance(later, Bury):
        assert first.after <= later.after


@given(failures=counts, waits=counts, age=st.floats(0, 1e9), jitter=jitters, error=errors)
def test_only_resource_failures_count(
    error: FetchError, failures: int, waits: int, age: float, jitter: float
) -> None:
    decision = decide(error, failures=failures, waits=waits, age=age, jitter=jitter)
    if isinstance(decision, RetryLater):
        assert decision.counts is not isinstance(error, NotReady | RateLimited)
    assert isinstance(decision, Pause) is isinstance(error, SourceRefused)


NOW = 784111747.0  # ten seconds before 06 Nov 1994 08:49:37 GMT, less 20


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        ("Sun Nov  6 08:49:37 1994", 30.0),
        ("Sat, 05 Nov 1994 08:49:37 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("\u0661\u0662", None),
        ("9" * 5000, None),
        ("1, 2", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
    ],
    ids=lambda value: str(value)[:32],
)
def test_retry_after_is_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_a_date_needs_a_clock(now: float) -> None:
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=now) is None


dates = st.from_regex(
    r"[A-Za-z]{0,3},? ?[0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{0,9} [A-Z0-9+-]*"
)


@given(value=st.none() | st.text() | dates, now=st.floats())
def test_parse_retry_after_is_total(value: str | None, now: float) -> None:
    seconds = parse_retry_after(value, now=now)
    assert seconds is None or 0 <= seconds < math.inf


@given(seconds=st.integers(0, 10**9 - 1))
def test_seconds_are_taken_as_they_are(seconds: int) -> None:
    assert parse_retry_after(str(seconds), now=NOW) == seconds
