"""The one thread that writes: urgent work first, each work in a transaction of its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from storage.database.base import Done, Work
from storage.errors import CannotStore

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    work: Work
    done: Done


class Writer:
    """Runs queued work one after the other, by `run`, which returns after the COMMIT.

    Acks are urgent and go first; after each urgent task one other may run, so that a flood of
    deliveries slows the storing of results but never stops it. `done(value, error)` is called on
    the writer's thread after the COMMIT, or after the rollback. When the thread ends, all tasks in
    the queue fail at once: a hung answer is worse than a refusal.
    """

    def __init__(self, run: Callable[[Work], Any]) -> None:
        self._run_in_transaction = run
        self._urgent: deque[_Task] = deque()
        self._other: deque[_Task] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._dead = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work, done: Done, *, urgent: bool = False) -> None:
        """Queue `work`; raises CannotStore when the writer has ended."""
        with self._wake:
            if self._closing or self._dead:
                raise CannotStore("The database writer has ended.")
            (self._urgent if urgent else self._other).append(_Task(work, done))
            self._wake.notify()

    def call(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the writer's thread and wait for its COMMIT."""
        finished = threading.Event()
        outcome: list[Any] = [None, None]

        def done(value: Any, error: BaseException | None) -> None:
            outcome[:] = value, error
            finished.set()

        self.submit(work, done)
        finished.wait()
        if outcome[1] is not None:
            raise outcome[1]
        value: T = outcome[0]
        return value

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            urgent_before = False
            while (task := self._next(prefer_other=urgent_before)) is not None:
                urgent_before = task[1]
                self._execute(task[0])
        finally:
            self._fail_the_rest()

    def _next(self, *, prefer_other: bool) -> tuple[_Task, bool] | None:
        with self._wake:
            while not (self._urgent or self._other):
                if self._closing:
                    return None
                self._wake.wait()
            if self._urgent and not (prefer_other and self._other):
                return self._urgent.popleft(), True
            return self._other.popleft(), False

    def _execute(self, task: _Task) -> None:
        value: Any = None
        error: Exception | None = None
        try:
            value = self._run_in_transaction(task.work)
        except Exception as unexpected:  # noqa: BLE001  the waiter gets it
            error = unexpected
        except BaseException:  # the thread ends during this task
            _report(task, None, CannotStore("The database writer has ended."))
            raise
        _report(task, None if error else value, error)

    def _fail_the_rest(self) -> None:
        with self._wake:
            self._dead = True
            left = [*self._urgent, *self._other]
            self._urgent.clear()
            self._other.clear()
        for task in left:
            _report(task, None, CannotStore("The database writer has ended."))


def _report(task: _Task, value: Any, error: BaseException | None) -> None:
    try:
        task.done(value, error)
    except Exception:  # the waiter is gone (a closed event loop); the commit stands
        log.exception("the outcome of a write could not be reported")
