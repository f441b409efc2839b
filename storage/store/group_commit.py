"""Group commit for work: what many threads want written at once goes into one transaction.

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

MOST = 500
"""What a group weighs at most: acks must get between two of them."""


@dataclass(slots=True)
class _Entry(Generic[T, Outcome]):
    item: T
    weight: int
    ready: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    outcome: Outcome | None = None
    error: BaseException | None = None


class Group(Generic[T, Outcome]):
    """Calls `write(items)`, which returns an outcome or an error for each, in one transaction.

    Whoever comes while nobody writes does so at once, and alone; those who come meanwhile are
    written together, by the first of them. No thread of its own is needed.
    """

    def __init__(self, write: Callable[[Sequence[T]], Sequence[Outcome | Exception]]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Entry[T, Outcome]] = []
        self._is_led = False

    def call(self, item: T, *, weight: int = 1) -> Outcome:
        """Return the outcome of `item` after the COMMIT; raises its error, or that of all."""
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
        """Write what waits, ourselves among it; then let the first of the others lead."""
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
        """All together; one by one where one is refused, for it must not harm the others."""
        try:
            return self._write([entry.item for entry in group])
        except CannotStore as error:
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001  it is raised by whoever asked for it
            if len(group) == 1:
                return [error]
            return [self._outcomes([entry])[0] for entry in group]


def _fitting(waiting: Sequence[_Entry[Any, Any]]) -> int:
    """How many of those who wait make a group: one at least."""
    weights = accumulate(entry.weight for entry in waiting)
    return max(1, sum(weight <= MOST for weight in weights))
