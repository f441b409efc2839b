"""Group commit for work: writes that many threads call for at once share one transaction.

As acks are grouped, so are pages and ends of jobs: each transaction costs a sync and a dozen
statements, whether it is for one job or for fifty.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Generic, TypeVar

from storage.errors import CannotStore

T = TypeVar("T")
Outcome = TypeVar("Outcome")

GROUP_WEIGHT = 500
"""The largest weight of a group, so that acks come between two of them."""


@dataclass(slots=True)
class _Entry(Generic[T, Outcome]):
    item: T
    weight: int
    ready: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    outcome: Outcome | None = None
    error: BaseException | None = None


class CallGroup(Generic[T, Outcome]):
    """Calls `write(items)`, which returns an outcome or an error for each, in one transaction.

    A call that comes while none is being written is written at once, and alone; the calls that come
    meanwhile are written together, on the thread of the first of them.
    """

    def __init__(self, write: Callable[[Sequence[T]], Sequence[Outcome | Exception]]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Entry[T, Outcome]] = []
        self._is_led = False

    def call(self, item: T, *, weight: int = 1) -> Outcome:
        """Return the outcome of `item` after the COMMIT; raises its error, or that of the group."""
        entry: _Entry[T, Outcome] = _Entry(item, weight)
        with self._lock:
            self._waiting.append(entry)
            entry.leads = not self._is_led
            self._is_led = True
        if not entry.leads:
            entry.ready.wait()
        if entry.leads:
            self._lead()
        if entry.error is not None:
            raise entry.error
        return entry.outcome  # type: ignore[return-value]  # without an error there is one

    def _lead(self) -> None:
        """Write a group of waiting calls, ours first; then let the next call lead."""
        with self._lock:
            group = self._waiting[: _fitting(self._waiting)]
            del self._waiting[: len(group)]
        try:
            self._settle(group)
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._is_led = heir is not None
            if heir is not None:
                heir.leads = True
                heir.ready.set()

    def _settle(self, group: list[_Entry[T, Outcome]]) -> None:
        try:
            outcomes = self._outcomes(group)
        except BaseException as error:
            for entry in group:
                entry.error = error
                entry.ready.set()
            raise
        for entry, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                entry.error = outcome
            else:
                entry.outcome = outcome
            entry.ready.set()

    def _outcomes(self, group: list[_Entry[T, Outcome]]) -> Sequence[Outcome | Exception]:
        """Write a group, or its items one by one where one is refused, which then fails alone."""
        try:
            return self._write([entry.item for entry in group])
        except CannotStore as error:
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001  the caller raises it
            if len(group) == 1:
                return [error]
            return [self._outcomes([entry])[0] for entry in group]


def _fitting(waiting: Sequence[_Entry[Any, Any]]) -> int:
    """Return how many of the waiting calls make a group: one at least."""
    weights = accumulate(entry.weight for entry in waiting)
    return max(1, sum(weight <= GROUP_WEIGHT for weight in weights))
