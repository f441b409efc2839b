"""What all requests of programs share: the store, the sources, and how much they may ask of it."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from receiver.intake.request_body import Bodies
from receiver.sources import Source
from storage import CannotStore, Store

T = TypeVar("T")

ASK_SECONDS = 10.0
ASKING_AT_ONCE = 8
"""Threads of their own, and few: programs must not keep intake and worker from the store."""


class ApiContext:
    """One for each running application; made in its lifespan."""

    def __init__(
        self,
        store: Store,
        sources: Mapping[str, Source],
        bodies: Bodies,
        *,
        public_url: str | None,
    ) -> None:
        self.store = store
        self.sources = sources
        self.bodies = bodies
        self.public_url = public_url
        self.streams = 0
        self._turns = CapacityLimiter(ASKING_AT_ONCE)

    async def ask(self, read: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a method of the store in a thread, which is left to itself if it takes too long.

        Raises CannotStore for that, and whatever the method raises.
        """
        work = partial(read, *args, **options)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._turns)
        except TimeoutError:
            raise CannotStore("The database did not answer in time.") from None
