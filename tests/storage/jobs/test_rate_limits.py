"""Rate limits: calls one interval apart, nothing saved up, and the longest hold wins."""

import pytest

from storage.database import Database
from storage.jobs import rate_limits
from tests.storage.build import at


def book(
    database: Database, count: int = 1, interval: float = 2.0, *, second: float, source: str = "a"
) -> float:
    """Book calls; returns the seconds to wait for the first."""
    return database.write(lambda c: rate_limits.book(c, source, count, interval, now=at(second)))


def hold(database: Database, seconds: float, *, second: float = 0, source: str = "a") -> None:
    database.write(lambda c: rate_limits.hold(c, source, seconds, now=at(second)))


def test_calls_are_booked_one_interval_apart(database: Database) -> None:
    waits = [book(database, second=0), book(database, 3, second=0), book(database, second=1)]
    assert waits == pytest.approx([0, 2, 7])


def test_an_idle_source_saves_up_no_calls(database: Database) -> None:
    book(database, second=0)
    waits = [book(database, second=3600) for _ in range(3)]
    assert waits == pytest.approx([0, 2, 4])


def test_a_hold_puts_off_the_next_call(database: Database) -> None:
    hold(database, 60)
    assert book(database, second=10) == pytest.approx(50)
    hold(database, 60, second=20)
    assert book(database, second=20) == pytest.approx(60)


def test_short_hold_keeps_the_long_one(database: Database) -> None:
    hold(database, 3600)
    hold(database, 5, second=1)
    assert book(database, second=1) == pytest.approx(3599)


def test_a_hold_does_not_shorten_what_is_booked(database: Database) -> None:
    book(database, 100, second=0)
    hold(database, 5)
    assert book(database, second=0) == pytest.approx(200)


def test_sources_are_limited_apart(database: Database) -> None:
    book(database, 100, second=0)
    hold(database, 3600)
    assert book(database, second=0, source="b") == 0
