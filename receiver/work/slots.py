"""Slots of one source: jobs are claimed, attempted side by side, and ended."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.sender_api.calls import Calls
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle
from receiver.work.attempts import Attempts
from storage import CannotStore, Lease, LeaseLost, Store

POLL_SECONDS = 1.0
"""A due job is noticed this late at most when no hint came."""

BEHIND_ACKS_SECONDS = 1.0
"""While deliveries come fast, jobs are started no more often than this: acks go first."""

GIVING_WAY_SECONDS = 0.05
"""Interval at which to look whether they still come fast."""

log = get_logger("worker")


class Slots:
    """Claims jobs for the free slots of one source, and attempts each in a task."""

    def __init__(self, store: Store, calls: Calls, gives_way: Callable[[], bool]) -> None:
        self.hint = asyncio.Event()
        self.leases: dict[int, Lease] = {}
        self._store = store
        self._gives_way = gives_way
        self._source = calls.source
        self._attempts = Attempts(store, calls)
        self._tasks: set[asyncio.Task[None]] = set()
        self._throttle = Throttle()

    async def run(self) -> None:
        try:
            while True:
                await self._give_way()
                if not await self._claim():
                    await self._rest()
        finally:
            await self._give_back()

    async def _give_way(self) -> None:
        ends = time.monotonic() + BEHIND_ACKS_SECONDS
        while self._gives_way() and time.monotonic() < ends:
            await asyncio.sleep(GIVING_WAY_SECONDS)

    async def _claim(self) -> bool:
        """Fill the free slots; returns True where more jobs may be due now."""
        slots = self._source.settings.concurrency
        free = slots - len(self._tasks)
        if free <= 0:
            return False
        claim = asyncio.create_task(
            run_in_threadpool(self._store.jobs.claim, self._source.name, limit=free, slots=slots)
        )
        try:
            leases = await asyncio.shield(claim)
        except asyncio.CancelledError:  # the claim goes on in its thread
            with suppress(CannotStore):
                await run_in_threadpool(self._store.jobs.give_back, await claim)
            raise
        except CannotStore as error:
            self._complain("jobs cannot be claimed", error)
            return False
        for lease in leases:
            self.leases[lease.job_id] = lease
            task = asyncio.create_task(self._run(lease))
            self._tasks.add(task)
            task.add_done_callback(partial(self._forget, lease))
        return bool(leases)

    async def _rest(self) -> None:
        """Wait for a hint, an ended job, or POLL_SECONDS."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self.hint.wait()
        except TimeoutError:
            return
        self.hint.clear()

    def _forget(self, lease: Lease, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.leases.get(lease.job_id) is lease:  # a lost one may have been claimed again
            del self.leases[lease.job_id]
        self.hint.set()

    async def _give_back(self) -> None:
        leases = list(self.leases.values())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if leases:
            with suppress(CannotStore):  # then the leases run out
                await run_in_threadpool(self._store.jobs.give_back, leases)

    async def _run(self, lease: Lease) -> None:
        """Attempt a job; a lease whose outcome cannot be recorded is given back once it can be."""
        try:
            await self._attempts.attempt(lease)
        except LeaseLost as lost:
            log.warning("lease lost", source=lease.source, job=lease.job_id, reason=str(lost))
        except CannotStore as error:
            self._complain("results cannot be stored", error)
            await self._give_back_later(lease)
        except Exception:  # the lease runs out, and other jobs go on
            log.exception("an outcome could not be recorded", job=lease.job_id)

    async def _give_back_later(self, lease: Lease) -> None:
        """Give the lease back once the store takes writes again; until then it fills its slot."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await run_in_threadpool(self._store.jobs.give_back, [lease])
            except CannotStore as error:
                self._complain("results cannot be stored", error)
            else:
                return

    def _complain(self, event: str, error: Exception) -> None:
        self._throttle.log(log.error, event, event, source=self._source.name, error=str(error))
