"""The worker of a process: it attempts the jobs of all sources.

Each source has slots and a rate limit of its own.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import Wire
from receiver.sender_api.rate_limit import rate_limiter_of
from receiver.sources import Source
from receiver.telemetry.logs import get_logger
from receiver.work.lease_keeper import LeaseKeeper
from receiver.work.slots import POLL_SECONDS, Slots
from storage import CannotStore, Lease, Store

log = get_logger("worker")


class Worker:
    """Attempts the jobs of all sources until it is stopped."""

    def __init__(
        self,
        store: Store,
        sources: Iterable[Source],
        wire: Wire,
        *,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        """`gives_way` returns True while something else needs the processor more."""
        self._store = store
        self._slots = {
            source.name: Slots(
                store, Calls(source, wire, rate_limiter=rate_limiter_of(source, store)), gives_way
            )
            for source in sources
        }

    def wake(self) -> None:
        """Look for due jobs now. A hint: without it they are noticed within POLL_SECONDS."""
        for slots in self._slots.values():
            slots.hint.set()

    async def run(self) -> None:
        """Work until cancelled, then give back the leases of unfinished jobs."""
        await self._take_over()
        released = partial(asyncio.get_running_loop().call_soon_threadsafe, self.wake)
        lease_keeper = LeaseKeeper(self._store, self._leases, released)
        try:
            async with asyncio.TaskGroup() as group:
                for slots in self._slots.values():
                    group.create_task(slots.run())
        finally:
            lease_keeper.stop()

    async def _take_over(self) -> None:
        """Free the jobs that an earlier process left running, once the database can be written."""
        while True:
            try:
                await run_in_threadpool(self._store.sources.probe_now)
                released = await run_in_threadpool(self._store.jobs.take_over)
            except CannotStore as error:
                log.warning("jobs cannot be taken over yet", error=str(error))
                await asyncio.sleep(POLL_SECONDS)
            else:
                if released:
                    log.info("jobs of an earlier process continue", jobs=released)
                return

    def _leases(self) -> list[Lease]:
        return [lease for slots in self._slots.values() for lease in list(slots.leases.values())]
