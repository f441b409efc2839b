"""Work aside: it is left behind at its deadline, and its outcome is the caller's."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from receiver.cli import aside as module
from receiver.cli.aside import DeadlinePassed, aside
from receiver.errors import UsageError


def test_value_and_error_are_the_caller_s() -> None:
    def fail(_: Callable[[], bool]) -> None:
        raise UsageError("Wrong.")

    assert aside(lambda _: 5, seconds=None) == 5
    with pytest.raises(UsageError, match="Wrong"):
        aside(fail, seconds=1)


def test_silent_work_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.05)
    go_on = threading.Event()
    with pytest.raises(DeadlinePassed, match=r"does not answer; the time to wait is over\.$"):
        aside(lambda is_left: is_left() or go_on.wait(), seconds=0.05)
    monkeypatch.setattr(module, "START_SECONDS", 0.05)
    with pytest.raises(DeadlinePassed):
        aside(lambda _: go_on.wait(), seconds=0.05)
    go_on.set()


def test_slow_work_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that takes longer than the grace, and then steps beyond the deadline."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.5)

    def work(is_left: Callable[[], bool]) -> str:
        time.sleep(0.7)
        for _ in range(8):
            is_left()
            time.sleep(0.1)
        return "done"

    assert aside(work, seconds=0) == "done"


def test_interrupt_tells_the_work_to_leave() -> None:
    has_left = threading.Event()

    def until_left(is_left: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while not is_left():
            time.sleep(0.01)
        has_left.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            aside(until_left, seconds=None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert has_left.is_set()
