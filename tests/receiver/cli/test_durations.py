"""When old secrets end: as a duration or a moment, never in the past."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.cli.durations import end_of_old
from receiver.errors import UsageError

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("keep", "seconds"),
    [(None, 86400), ("0", 0), ("90m", 5400), ("24h", 86400), ("7d", 604800), ("1w", 604800)],
)  # fmt: skip
def test_a_duration_begins_now(keep: str | None, seconds: int) -> None:
    assert end_of_old(keep, None, now=NOON) == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize("until", ["2026-12-01T00:00:00Z", "2026-12-01T01:00+01:00"])
def test_a_moment_has_a_zone(until: str) -> None:
    assert end_of_old(None, until, now=NOON) == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("keep", "until", "sentence"),
    [
        ("24h", "2026-12-01T00:00:00Z", "either --keep or --until"),
        ("24", None, "'24' is no duration: write it like"),
        ("-1h", None, "is no duration"),
        ("1y", None, "is no duration"),
        ("1.5h", None, "is no duration"),
        ("", None, None),
        ("999999999w", None, "too long: 3650d at most"),
        (None, "tomorrow", "is no moment with a zone"),
        (None, "2026-12-01", "is no moment with a zone"),
        (None, "2026-12-01T00:00:00", "is no moment with a zone"),
        (None, "2026-11-22T12:00:00Z", "has passed: --keep 0"),
        (None, "2020-01-01T00:00:00Z", "has passed"),
        (None, "9999-12-31T23:59:59-23:00", "out of all time"),
    ],
)
def test_nonsense_is_one_sentence(
    keep: str | None, until: str | None, sentence: str | None
) -> None:
    with pytest.raises(UsageError, match=sentence):
        end_of_old(keep, until, now=NOON)


@given(keep=st.none() | st.text(), until=st.none() | st.text())
def test_any_input_ends_after_now(keep: str | None, until: str | None) -> None:
    try:
        end = end_of_old(keep, until, now=NOON)
    except UsageError:
        return
    assert end >= NOON
