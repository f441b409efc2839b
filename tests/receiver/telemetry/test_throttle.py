"""A log line at most once per interval and key, with a count of those left out."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from receiver.telemetry.throttle import Throttle


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def allowed(throttle: Throttle, clock: Clock, *asked: tuple[str, float]) -> list[int | None]:
    """The answers for these keys at these moments."""
    answers = []
    for key, clock.now in asked:
        answers.append(throttle.allow(key))
    return answers


def test_one_line_per_interval_counts_the_others() -> None:
    clock = Clock()
    throttle = Throttle(30.0, clock=clock)
    asked = ("full", 0.0), ("full", 1.0), ("full", 29.9), ("other", 29.9), ("full", 30.0)
    assert allowed(throttle, clock, *asked) == [0, None, None, 0, 2]
    assert allowed(throttle, clock, ("full", 60.0)) == [0]


def test_log_says_the_event_with_the_count() -> None:
    clock, said = Clock(), list[dict[str, Any]]()
    throttle = Throttle(30.0, clock=clock)

    def say(event: str, **fields: Any) -> None:
        said.append({"event": event, **fields})

    for clock.now in (0.0, 1.0, 2.0, 30.0):
        throttle.log(say, "disk", "cannot store", error="full")
    line = {"event": "cannot store", "error": "full"}
    assert said == [{**line, "suppressed": 0}, {**line, "suppressed": 2}]


def test_the_key_that_was_quiet_longest_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(10.0, capacity=3, clock=clock)
    assert allowed(throttle, clock, ("a", 0.0), ("b", 1.0), ("a", 10.0), ("c", 10.5)) == [0] * 4
    assert allowed(throttle, clock, ("d", 10.9), ("d", 11.0), ("a", 11.0)) == [None, 0, None]


def test_a_clock_that_steps_back_does_not_silence() -> None:
    clock = Clock()
    assert allowed(Throttle(30.0, clock=clock), clock, ("full", 1e9), ("full", 5.0)) == [0, 0]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 5))),
    st.integers(1, 4),
)
def test_memory_and_lines_are_bounded(steps: list[tuple[str, float]], capacity: int) -> None:
    clock, lines = Clock(), list[float]()
    throttle = Throttle(10.0, capacity=capacity, clock=clock)
    for key, step in steps:
        clock.now += step
        if throttle.allow(key) is not None:
            lines.append(clock.now)
        assert len(throttle._seen) <= capacity
        assert sum(clock.now - line < 10.0 for line in lines) <= capacity
