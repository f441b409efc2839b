"""Shared by all requests of programs: the store, the sources, and few threads to use them."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from receiver.intake.request_body import Bodies
from receiver.sources import Source
from storage import CannotStore, Store

T = TypeVar("T")

CALL_SECONDS = 10.0
MAX_THREADS = 8
"""Threads for calls of the store: few, so that programs do not keep intake and worker from it."""


class ApiContext:
    """The API's part of a running application; made in its lifespan."""

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
        self._threads = CapacityLimiter(MAX_THREADS)

    async def in_thread(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a function that blocks in a thread, which is abandoned after 10 seconds.

        Raises CannotStore then, and whatever the function raises.
        """
        work = partial(call, *args, **options)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError:
            raise CannotStore("The database did not answer in time.") from None
