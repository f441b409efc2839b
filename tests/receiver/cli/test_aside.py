"""Work aside: it is left behind at its deadline, and its outcome is the caller's."""

import threading
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
        aside(lambda _: go_on.wait(), seconds=0.05)
    go_on.set()


def test_interrupt_tells_the_work_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    def until_left(is_left: Callable[[], bool]) -> None:
        while not is_left():
            pass
        left.set()

    joined = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        monkeypatch.setattr(threading.Thread, "join", joined)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        aside(until_left, seconds=None)
    assert left.is_set()
