"""How fast a sender is asked: so many requests per second, over all who ask it.

A 429 holds everybody back until the sender's moment has come, not only who met it.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.sources import Source
from storage import Store


class RateLimiter(ABC):
    """One source's limit of requests per second."""

    @abstractmethod
    async def turn(self) -> None:
        """Return when a request may be made; raises CannotStore where that cannot be known."""

    @abstractmethod
    async def hold(self, seconds: float) -> None:
        """Let nobody go before `seconds` have passed, not even who waits for a turn already."""


def rate_limiter_of(source: Source, store: Store) -> RateLimiter:
    """The pace that all who serve this store keep together."""
    per_second = source.settings.requests_per_second
    if store.is_shared:
        return SharedRateLimiter(store, source.name, per_second)
    return LocalRateLimiter(per_second)


class LocalRateLimiter(RateLimiter):
    """The pace of one process, kept in memory."""

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / per_second
        self._clock = clock
        self._next = 0.0
        self._held = 0.0

    async def turn(self) -> None:
        mine = self._booked()
        while (wait := mine - self._clock()) > 0:
            await asyncio.sleep(wait)
            if mine < self._held:  # somebody met a 429 while we waited
                mine = self._booked()

    async def hold(self, seconds: float) -> None:
        self._held = max(self._held, self._clock() + seconds)
        self._next = max(self._next, self._held)

    def _booked(self) -> float:
        mine = max(self._next, self._clock())
        self._next = mine + self._interval
        return mine


class SharedRateLimiter(RateLimiter):
    """The pace of many processes, kept in the store: turns are booked there, many at a time.

    Whoever waits while others are being booked is booked together with all who came meanwhile, so
    that a fast pace costs few writes. Of those booked already, a 429 met by another process holds
    back none: a moment's worth.
    """

    def __init__(self, store: Store, source: str, per_second: float) -> None:
        self._store = store
        self._source = source
        self._interval = 1.0 / per_second
        self._most = max(1, int(per_second))  # no more than a second ahead
        self._waiting: list[asyncio.Future[float]] = []
        self._booking: asyncio.Task[None] | None = None
        self._held = 0.0

    async def turn(self) -> None:
        while True:
            mine = await self._booked()
            await asyncio.sleep(max(0.0, mine - time.monotonic()))
            if mine >= self._held:
                return

    async def hold(self, seconds: float) -> None:
        self._held = max(self._held, time.monotonic() + seconds)
        await run_in_threadpool(self._store.sources.hold_calls, self._source, seconds)

    async def _booked(self) -> float:
        """The moment of a turn of ours, by the monotonic clock."""
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._booking is None:
            self._booking = asyncio.create_task(self._book())
        return await turn

    async def _book(self) -> None:
        try:
            while self._waiting:
                if taken := self._taken():
                    await self._book_for(taken)
        finally:
            self._booking = None

    def _taken(self) -> list[asyncio.Future[float]]:
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        return [turn for turn in taken if not turn.done()]

    async def _book_for(self, waiting: list[asyncio.Future[float]]) -> None:
        book = partial(self._store.sources.book_calls, self._source, len(waiting), self._interval)
        try:
            wait = await run_in_threadpool(book)
        except Exception as error:  # noqa: BLE001  it is raised where it is waited for
            for turn in waiting:
                if not turn.done():
                    turn.set_exception(error)
            return
        first = time.monotonic() + wait
        for place, turn in enumerate(waiting):
            if not turn.done():
                turn.set_result(first + place * self._interval)
