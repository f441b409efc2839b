"""Work of a command on a thread that nothing holds: neither a silent database, nor Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from receiver.cli.output import errors
from receiver.errors import ReceiverError

T = TypeVar("T")

START_SECONDS = 10.0
"""How long after its deadline work may still take for its first step: a first read, on a machine
that is busy."""

GRACE_SECONDS = 3.0
"""How long after its deadline, and after its last step, work may still take to end by itself."""

LOOK_SECONDS = 0.5
"""Interval at which to look whether work that has a deadline is silent."""

LEAVING_SECONDS = 1.0
"""How long work may take to end after Ctrl-C."""


class DeadlinePassed(ReceiverError):
    """Left work behind that did not end at its deadline, since the database did not answer."""


def aside(work: Callable[[Callable[[], bool]], T], *, seconds: float | None) -> T:
    """Return what `work` returns, done on a thread that dies with the process.

    `work` ends by itself after `seconds`, and once the function that it is given returns True,
    which is after Ctrl-C. It calls that function after each step, so that work that goes on slowly
    is told from a read that gets no answer. Where it does not end, it is left behind: raises
    DeadlinePassed soon after its time, and KeyboardInterrupt.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    thread = _Aside(work)
    try:
        thread.start()
        # not `join`: Python 3.11 takes a thread for ended whose join was interrupted
        # (https://github.com/python/cpython/issues/90882)
        while not thread.has_ended.is_set() and (left := thread.seconds_left(deadline)) > 0:
            # in short pauses: the first step shortens the time that is left
            thread.has_ended.wait(None if deadline is None else min(left, LOOK_SECONDS))
    except KeyboardInterrupt:
        thread.is_left.set()
        thread.has_ended.wait(LEAVING_SECONDS)
        raise
    finally:
        errors().show_cursor()  # a progress bar that is left behind has hidden it
    if not thread.has_ended.is_set():
        raise DeadlinePassed("The database does not answer; the time to wait is over.")
    return thread.outcome()


class _Aside(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[Callable[[], bool]], T]) -> None:
        super().__init__(name="aside", daemon=True)
        self.is_left = threading.Event()
        self.has_ended = threading.Event()
        self._work = work
        self._last_step: float | None = None
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._work(self._step)
        except BaseException as error:  # noqa: BLE001  it is raised where the outcome is awaited
            self._error = error
        finally:
            self.has_ended.set()

    def _step(self) -> bool:
        self._last_step = time.monotonic()
        return self.is_left.is_set()

    def seconds_left(self, deadline: float | None) -> float:
        """Return for how long the work may still be silent."""
        if deadline is None:
            return float("inf")
        if self._last_step is None:
            return deadline + START_SECONDS - time.monotonic()
        return max(deadline, self._last_step) + GRACE_SECONDS - time.monotonic()

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value
