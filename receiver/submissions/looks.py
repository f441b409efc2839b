"""Looks at the sender beside a wait: they never hold up what is waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from types import TracebackType
from typing import Any

from receiver.errors import FetchError
from storage import CannotStore


class Looks:
    """Looks at what is waited for: for each thing one at a time, and every `seconds` at most.

    `failed` is called with the error of a look that the sender or the database did not allow; the
    next one follows all the same. Looks that still go on at the end of the block are cancelled.
    """

    def __init__(
        self, seconds: float, *, failed: Callable[[Exception], None] = lambda _: None
    ) -> None:
        self._seconds = seconds
        self._failed = failed
        self._due: dict[Hashable, float] = {}
        self._going: dict[Hashable, asyncio.Task[None]] = {}
        self._broken: BaseException | None = None

    def begin_if_due(
        self, key: Hashable, look: Callable[[], Awaitable[Any]], *, first_in: float = 0.0
    ) -> None:
        """Begin a look; the first one not before `first_in` seconds.

        Raises the error of an earlier look that broke for another reason.
        """
        if self._broken is not None:
            raise self._broken
        moment = time.monotonic()
        due = self._due.setdefault(key, moment + first_in)
        if moment < due or key in self._going:
            return
        self._due[key] = moment + self._seconds
        task = self._going[key] = asyncio.create_task(self._look(look))
        task.add_done_callback(partial(self._end, key))

    async def _look(self, look: Callable[[], Awaitable[Any]]) -> None:
        try:
            await look()
        except (FetchError, CannotStore) as error:
            self._failed(error)

    def _end(self, key: Hashable, task: asyncio.Task[None]) -> None:
        del self._going[key]
        if not task.cancelled():
            self._broken = task.exception()

    async def __aenter__(self) -> "Looks":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        going = list(self._going.values())
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
