"""Working off: claim jobs for free slots, try each once, decide what its outcome means.

One worker in a process serves all sources, each with its own slots and pace. Leases are renewed
from a thread of its own, so that a busy event loop loses none.
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
    """Works off the jobs of all sources until it is stopped."""

    def __init__(
        self,
        store: Store,
        sources: Iterable[Source],
        wire: Wire,
        *,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        """`gives_way` says whether something else needs the processor more, now."""
        self._store = store
        self._slots = {
            source.name: Slots(
                store, Calls(source, wire, rate_limiter=rate_limiter_of(source, store)), gives_way
            )
            for source in sources
        }

    def wake(self) -> None:
        """There may be work: a hint, never needed."""
        for slots in self._slots.values():
            slots.hint.set()

    async def run(self) -> None:
        """Work until cancelled; then give back what is not finished."""
        await self._take_over()
        released = partial(asyncio.get_running_loop().call_soon_threadsafe, self.wake)
        renewing = LeaseKeeper(self._store, self._leases, released)
        try:
            async with asyncio.TaskGroup() as group:
                for slots in self._slots.values():
                    group.create_task(slots.run())
        finally:
            renewing.stop()

    async def _take_over(self) -> None:
        """Free what an earlier process left, as soon as the database lets us."""
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
