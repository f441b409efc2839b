"""Work of a command on a thread that nothing holds: neither a silent database, nor Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from receiver.cli.output import errors
from receiver.errors import ReceiverError

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How long after its deadline work may still take to end by itself."""

LEAVING_SECONDS = 1.0
"""How long work may take to end after Ctrl-C."""


class DeadlinePassed(ReceiverError):
    """Left work behind that did not end at its deadline, since the database did not answer."""


def aside(work: Callable[[Callable[[], bool]], T], *, seconds: float | None) -> T:
    """Return what `work` returns, done on a thread that dies with the process.

    `work` ends by itself after `seconds`, and once the function that it is given returns True,
    which is after Ctrl-C. Where it does not, it is left behind: raises DeadlinePassed soon after
    its time, and KeyboardInterrupt.
    """
    thread = _Aside(work)
    try:
        thread.start()
        # not `join`: Python 3.11 takes a thread for ended whose join was interrupted
        # (https://github.com/python/cpython/issues/90882)
        has_ended = thread.has_ended.wait(None if seconds is None else seconds + GRACE_SECONDS)
    except KeyboardInterrupt:
        thread.is_left.set()
        thread.has_ended.wait(LEAVING_SECONDS)
        raise
    finally:
        errors().show_cursor()  # a progress bar that is left behind has hidden it
    if not has_ended:
        raise DeadlinePassed("The database does not answer; the time to wait is over.")
    return thread.outcome()


class _Aside(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[Callable[[], bool]], T]) -> None:
        super().__init__(name="aside", daemon=True)
        self.is_left = threading.Event()
        self.has_ended = threading.Event()
        self._work = work
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._work(self.is_left.is_set)
        except BaseException as error:  # noqa: BLE001  it is raised where the outcome is awaited
            self._error = error
        finally:
            self.has_ended.set()

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value
