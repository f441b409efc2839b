"""Commits the deliveries that wait as a group: one transaction, and each waits for its COMMIT."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from storage import CannotStore, Store, VerifiedDelivery

DEADLINE_SECONDS = 1.6
"""A delivery that waits longer is refused, so that the sender has its answer within two seconds."""

LOOK_SECONDS = 0.1
GROUP_ROWS = 256
GROUP_BYTES = 8 * 1024 * 1024
MAX_WAITING = 10_000
"""Deliveries that may wait together; further ones are refused immediately."""

WINDOW_SECONDS = 0.1
BUSY_PER_SECOND = 500
"""From this rate of deliveries on, counted by windows, their answers need the processor."""

T = TypeVar("T")
OnResult = Callable[[str | CannotStore], None]
"""Takes the result of a delivery: `accepted` or `duplicate` after its COMMIT, or why not."""


@dataclass(slots=True)
class _Waiting:
    delivery: VerifiedDelivery
    on_result: OnResult | None  # None once it was called
    since: float


class GroupCommit:
    """Hands groups of deliveries to the store, one group at a time, from one event loop.

    While a group is being committed the next one gathers, so groups grow with the load. A client
    that leaves does not take its delivery out of the group: what was submitted is stored.
    """

    def __init__(
        self,
        store: Store,
        *,
        deadline: float = DEADLINE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._waiting: deque[_Waiting] = deque()
        self._committing: list[_Waiting] = []
        self._is_flush_due = False
        self._watch: asyncio.TimerHandle | None = None
        self._window_began = 0.0
        self._in_window = 0
        self._was_busy = False

    async def commit(self, delivery: VerifiedDelivery) -> str:
        """Return `accepted` or `duplicate` once the delivery is on disk.

        Raises CannotStore when it is not (yet): the sender must try again. A commit that comes
        after the deadline is harmless: the retry will be its duplicate.
        """
        result: asyncio.Future[str | CannotStore] = self._loop.create_future()
        self.submit(delivery, partial(settle, result))
        outcome = await result
        if isinstance(outcome, CannotStore):
            raise outcome
        return outcome

    def submit(self, delivery: VerifiedDelivery, on_result: OnResult) -> None:
        """Queue a delivery; `on_result` is called once, on the event loop, after its COMMIT.

        Or earlier, with a CannotStore, where there is none in time. Raises CannotStore where too
        many wait; `on_result` is then not called.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise CannotStore("Too many deliveries wait for the disk.")
        moment = self._clock()
        self._waiting.append(_Waiting(delivery, on_result, moment))
        self._in_window += 1
        if moment - self._window_began >= WINDOW_SECONDS:
            self._begin_window(moment)
        if not self._committing and not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)
        if self._watch is None:
            self._watch = self._loop.call_later(LOOK_SECONDS, self._refuse_the_late)

    def is_busy(self) -> bool:
        """Return True while deliveries arrive at BUSY_PER_SECOND or more."""
        return self._was_busy and self._clock() - self._window_began < 2 * WINDOW_SECONDS

    def _begin_window(self, moment: float) -> None:
        elapsed = moment - self._window_began
        self._was_busy = self._in_window >= BUSY_PER_SECOND * elapsed
        self._window_began, self._in_window = moment, 0

    def _flush(self) -> None:
        """Hand the deliveries that have gathered to the store, within the bounds of a group."""
        self._is_flush_due = False
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP_ROWS and size < GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += len(group[-1].delivery.body)
        if not group:
            return
        self._committing = group

        def done(outcomes: list[str | Exception] | None, error: BaseException | None) -> None:
            self._loop.call_soon_threadsafe(self._complete, group, outcomes, error)

        try:
            self._store.deliveries.record([waiting.delivery for waiting in group], done)
        except CannotStore as error:
            self._complete(group, None, error)

    def _complete(
        self,
        group: list[_Waiting],
        outcomes: list[str | Exception] | None,
        error: BaseException | None,
    ) -> None:
        """Start the next group, which is written meanwhile; then give this one its results."""
        self._committing = []
        if self._waiting:
            self._flush()
        results: Sequence[str | BaseException | None] = outcomes or [error] * len(group)
        for waiting, result in zip(group, results, strict=True):
            self._give(waiting, result if isinstance(result, str) else _refused(result))

    def _give(self, waiting: _Waiting, result: str | CannotStore) -> None:
        """Give a delivery its result; an error in doing so keeps no other one from its own."""
        on_result, waiting.on_result = waiting.on_result, None
        if on_result is None:
            return
        try:
            on_result(result)
        except Exception as error:  # noqa: BLE001  the loop's exception handler takes it
            context = {"message": "a delivery could not be answered", "exception": error}
            self._loop.call_exception_handler(context)

    def _refuse_the_late(self) -> None:
        self._watch = None
        late = self._clock() - self._deadline
        for waiting in (*self._committing, *self._waiting):
            if waiting.since > late:
                break
            self._give(waiting, CannotStore("The disk did not answer in time."))
        while self._waiting and self._waiting[0].on_result is None:
            self._waiting.popleft()  # its body no longer counts as in flight: let go of it too
        if self._waiting or self._committing:
            self._watch = self._loop.call_later(LOOK_SECONDS, self._refuse_the_late)


def _refused(cause: BaseException | None) -> CannotStore:
    refused = CannotStore(f"The delivery could not be stored: {cause}.")
    refused.__cause__ = cause
    return refused


def settle(future: asyncio.Future[T], result: T) -> None:
    """Set the result of a future, unless whoever awaited it has left."""
    if not future.done():
        future.set_result(result)
