"""Rate limits of a source: requests per second, over all who call its sender.

After a 429 nobody calls until the moment that the sender gave, not only whoever met it.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.sources import Source
from storage import Store


class RateLimiter(ABC):
    """One source's limit of requests per second."""

    @abstractmethod
    async def acquire(self) -> None:
        """Return when a request may be made; raises CannotStore where the limit cannot be read."""

    @abstractmethod
    async def hold(self, seconds: float) -> None:
        """Let no request be made for so many seconds, not even one that waits already."""


def rate_limiter_of(source: Source, store: Store) -> RateLimiter:
    """Return the limiter of a source, shared by all processes where the store is shared."""
    per_second = source.settings.requests_per_second
    if store.is_shared:
        return SharedRateLimiter(store, source.name, per_second)
    return LocalRateLimiter(per_second)


class LocalRateLimiter(RateLimiter):
    """A limit within one process, kept in memory."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._held_until = 0.0

    async def acquire(self) -> None:
        slot = self._reserve()
        while (wait := slot - self._clock()) > 0:
            await self._sleep(wait)
            if slot < self._held_until:  # another call met a 429 meanwhile
                slot = self._reserve()

    async def hold(self, seconds: float) -> None:
        self._held_until = max(self._held_until, self._clock() + seconds)
        self._next = max(self._next, self._held_until)

    def _reserve(self) -> float:
        slot = max(self._next, self._clock())
        self._next = slot + self._interval
        return slot


class SharedRateLimiter(RateLimiter):
    """A limit over many processes: slots are reserved in the store, many at a time.

    Whoever waits during a reservation is part of the next one, so that a high rate costs few
    writes. A 429 that another process meets does not hold back the slots that are reserved
    already, which are those of a second at most.
    """

    def __init__(
        self,
        store: Store,
        source: str,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._store = store
        self._source = source
        self._interval = 1.0 / per_second
        self._most = max(1, int(per_second))  # no more than a second ahead
        self._waiting: list[asyncio.Future[float]] = []
        self._reserving: asyncio.Task[None] | None = None
        self._held_until = 0.0

    async def acquire(self) -> None:
        while True:
            slot = await self._reserve()
            await self._sleep(max(0.0, slot - self._clock()))
            if slot >= self._held_until:
                return

    async def hold(self, seconds: float) -> None:
        self._held_until = max(self._held_until, self._clock() + seconds)
        await run_in_threadpool(self._store.sources.hold_calls, self._source, seconds)

    async def _reserve(self) -> float:
        """Return the moment of a reserved slot, by the monotonic clock."""
        slot: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        if self._reserving is None:
            self._reserving = asyncio.create_task(self._reserve_for_all())
        return await slot

    async def _reserve_for_all(self) -> None:
        try:
            while self._waiting:
                if slots := self._take_waiting():
                    await self._reserve_for(slots)
        finally:
            self._reserving = None

    def _take_waiting(self) -> list[asyncio.Future[float]]:
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        return [slot for slot in taken if not slot.done()]

    async def _reserve_for(self, slots: list[asyncio.Future[float]]) -> None:
        reserve = partial(self._store.sources.book_calls, self._source, len(slots), self._interval)
        try:
            wait = await run_in_threadpool(reserve)
        except Exception as error:  # noqa: BLE001  it is raised to whoever waits for the slot
            for slot in slots:
                if not slot.done():
                    slot.set_exception(error)
            return
        first = self._clock() + wait
        for place, slot in enumerate(slots):
            if not slot.done():
                slot.set_result(first + place * self._interval)
