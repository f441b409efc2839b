"""Group commit: the deliveries that wait go into one transaction, each waits for its COMMIT."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from storage import CannotStore, Store, VerifiedDelivery

DEADLINE_SECONDS = 1.6
"""After this a waiting delivery is refused, so that the sender has its answer within two."""

LOOK_SECONDS = 0.1
GROUP_ROWS = 256
GROUP_BYTES = 8 * 1024 * 1024
MAX_WAITING = 10_000
"""Deliveries that may wait at once; beyond it they are refused at once."""

WINDOW_SECONDS = 0.1
BUSY_PER_SECOND = 500
"""From so many deliveries a second on, counted by windows, their answers need the processor."""

T = TypeVar("T")
Told = Callable[[str | CannotStore], None]
"""Takes what became of a delivery: `accepted` or `duplicate` after its COMMIT, or why not."""


@dataclass(slots=True)
class _Waiting:
    delivery: VerifiedDelivery
    told: Told | None  # None once it was called
    since: float


class GroupCommit:
    """Hands groups of deliveries to the store, one group at a time, from one event loop.

    While a group is being committed the next one gathers, so groups grow with the load. A client
    that leaves does not take its delivery out of the group: what was handed over is stored.
    """

    def __init__(self, store: Store, *, deadline: float = DEADLINE_SECONDS) -> None:
        self._store = store
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._flying: list[_Waiting] = []
        self._is_flying = False
        self._is_due = False
        self._watch: asyncio.TimerHandle | None = None
        self._window_began = 0.0
        self._in_window = 0
        self._was_busy = False

    async def commit(self, delivery: VerifiedDelivery) -> str:
        """Return `accepted` or `duplicate` once the delivery is on disk.

        Raises CannotStore when it is not (yet): the sender must try again. A commit that comes
        after the deadline is harmless: the retry will be its duplicate.
        """
        answer: asyncio.Future[str | CannotStore] = self._loop.create_future()
        self.hand_in(delivery, partial(settle, answer))
        outcome = await answer
        if isinstance(outcome, CannotStore):
            raise outcome
        return outcome

    def hand_in(self, delivery: VerifiedDelivery, told: Told) -> None:
        """The same without a task that waits: `told` is called once, later, on the event loop.

        Raises CannotStore where too many wait; `told` is then not called.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise CannotStore("Too many deliveries wait for the disk.")
        moment = self._loop.time()
        self._waiting.append(_Waiting(delivery, told, moment))
        self._in_window += 1
        if moment - self._window_began >= WINDOW_SECONDS:
            self._begin_window(moment)
        if not self._is_flying and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._fly)
        if self._watch is None:
            self._watch = self._loop.call_later(LOOK_SECONDS, self._refuse_the_late)

    def is_busy(self) -> bool:
        """Whether deliveries come so fast that other work had better wait."""
        return self._was_busy and self._loop.time() - self._window_began < 2 * WINDOW_SECONDS

    def _begin_window(self, moment: float) -> None:
        elapsed = moment - self._window_began
        self._was_busy = self._in_window >= BUSY_PER_SECOND * elapsed
        self._window_began, self._in_window = moment, 0

    def _fly(self) -> None:
        """Hand over what has gathered, within the bounds of a group."""
        self._is_due = False
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP_ROWS and size < GROUP_BYTES:
            waiting = self._waiting.popleft()
            if waiting.told is not None:
                group.append(waiting)
                size += len(waiting.delivery.body)
        if not group:
            return
        self._flying, self._is_flying = group, True

        def done(outcomes: list[str | Exception] | None, error: BaseException | None) -> None:
            self._loop.call_soon_threadsafe(self._land, group, outcomes, error)

        try:
            self._store.deliveries.record([waiting.delivery for waiting in group], done)
        except CannotStore as error:
            self._land(group, None, error)

    def _land(
        self,
        group: list[_Waiting],
        outcomes: list[str | Exception] | None,
        error: BaseException | None,
    ) -> None:
        """The next group first: it is written while the answers of this one are."""
        self._flying, self._is_flying = [], False
        if self._waiting:
            self._fly()
        told: Sequence[str | BaseException | None] = outcomes or [error] * len(group)
        for waiting, outcome in zip(group, told, strict=True):
            self._tell(waiting, outcome if isinstance(outcome, str) else _refused(outcome))

    def _tell(self, waiting: _Waiting, outcome: str | CannotStore) -> None:
        """Whatever becomes of one answer, the others of its group are given."""
        told, waiting.told = waiting.told, None
        if told is None:
            return
        try:
            told(outcome)
        except Exception as error:  # noqa: BLE001  it is handed to whoever hears of the loop's
            context = {"message": "a delivery could not be answered", "exception": error}
            self._loop.call_exception_handler(context)

    def _refuse_the_late(self) -> None:
        self._watch = None
        late = self._loop.time() - self._deadline
        for waiting in (*self._flying, *self._waiting):
            if waiting.since > late:
                break
            self._tell(waiting, CannotStore("The disk did not answer in time."))
        while self._waiting and self._waiting[0].told is None:
            self._waiting.popleft()  # its body no longer counts as in flight: let go of it too
        if self._waiting or self._is_flying:
            self._watch = self._loop.call_later(LOOK_SECONDS, self._refuse_the_late)


def _refused(cause: BaseException | None) -> CannotStore:
    refused = CannotStore(f"The delivery could not be stored: {cause}.")
    refused.__cause__ = cause
    return refused


def settle(future: asyncio.Future[T], result: T) -> None:
    """Give a result to whoever awaits it, unless that one has left."""
    if not future.done():
        future.set_result(result)
