"""The slots of one source: jobs claimed, run side by side, and ended."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import (
    FetchError,
    Missing,
    NotReady,
    Unasked,
    Unavailable,
)
from receiver.sender_api.calls import Calls
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle
from receiver.work.check_schedule import decide
from receiver.work.fetch import Fetch
from receiver.work.retry import Pause, RetryLater
from storage import AttemptOutcome, CannotStore, Lease, LeaseLost, Store

POLL_SECONDS = 1.0
"""The clock beneath the wake-ups: how late a due job is noticed when no hint came."""

BEHIND_ACKS_SECONDS = 1.0
"""While deliveries come fast, jobs are begun no more often than this: answers go first."""

GIVING_WAY_SECONDS = 0.05
"""How often it is looked whether they still do."""

log = get_logger("worker")


class Slots:
    """The slots of one source: claims for the free ones, works each lease in a task."""

    def __init__(self, store: Store, calls: Calls, gives_way: Callable[[], bool]) -> None:
        self.hint = asyncio.Event()
        self.leases: dict[int, Lease] = {}
        self._store = store
        self._gives_way = gives_way
        self._source = calls.source
        self._fetch = Fetch(store, calls)
        self._tasks: set[asyncio.Task[None]] = set()
        self._complaints = Throttle()

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
        """Fill the free slots; says whether there may be more to do at once."""
        slots = self._source.settings.concurrency
        free = slots - len(self._tasks)
        if free <= 0:
            return False
        claiming = asyncio.create_task(
            run_in_threadpool(self._store.jobs.claim, self._source.name, limit=free, slots=slots)
        )
        try:
            leases = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # what is being claimed is claimed all the same
            with suppress(CannotStore):
                await run_in_threadpool(self._store.jobs.give_back, await claiming)
            raise
        except CannotStore as error:
            self._complain("jobs cannot be claimed", error)
            return False
        for lease in leases:
            self.leases[lease.job_id] = lease
            task = asyncio.create_task(self._work(lease))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, lease))
        return bool(leases)

    async def _rest(self) -> None:
        """Until a hint, an ended job, or the clock."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self.hint.wait()
        except TimeoutError:
            return
        self.hint.clear()

    def _ended(self, lease: Lease, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.leases.get(lease.job_id) is lease:  # a lost one may have been claimed anew
            del self.leases[lease.job_id]
        self.hint.set()

    async def _give_back(self) -> None:
        leases = list(self.leases.values())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if leases:
            with suppress(CannotStore):  # then they run out
                await run_in_threadpool(self._store.jobs.give_back, leases)

    async def _work(self, lease: Lease) -> None:
        """One attempt; what cannot be recorded now is given back as soon as it can be."""
        try:
            await self._attempt(lease)
        except LeaseLost as lost:
            log.warning("lease lost", source=lease.source, job=lease.job_id, reason=str(lost))
        except CannotStore as refused:
            self._complain("results cannot be stored", refused)
            await self._give_back_later(lease)
        except Exception:  # its lease runs out, and others go on
            log.exception("an outcome could not be recorded", job=lease.job_id)

    async def _attempt(self, lease: Lease) -> None:
        """From the claim to the recorded outcome."""
        clock = time.perf_counter()
        said, error = await self._try(lease)
        milliseconds = round((time.perf_counter() - clock) * 1000, 1)
        # by the clock as it is now: one that went back meanwhile must not delay the next try
        began = self._store.now() - timedelta(milliseconds=milliseconds)
        tried = partial(AttemptOutcome, began, milliseconds)
        outcome = await self._conclude(lease, error, said, tried)
        log.info(
            "attempt",
            source=lease.source,
            job=lease.job_id,
            kind=lease.kind,
            subject=lease.subject,
            event_id=lease.event_id,
            outcome=outcome,
            detail=said,
            ms=milliseconds,
        )

    async def _try(self, lease: Lease) -> tuple[str, FetchError | None]:
        """What the try brought, in a sentence, and the error it ended with, if it did."""
        try:
            return await self._fetch.fetch(lease), None
        except (LeaseLost, CannotStore):
            raise
        except FetchError as failed:
            return str(failed), failed
        except Exception as bug:
            log.exception("an attempt broke", source=lease.source, job=lease.job_id)
            error = Unavailable(f"unexpected {type(bug).__name__}: {bug}")
            return str(error), error

    async def _give_back_later(self, lease: Lease) -> None:
        """Keep the slot and the lease until the store takes writes again; nothing is counted."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await run_in_threadpool(self._store.jobs.give_back, [lease])
            except CannotStore as refused:
                self._complain("results cannot be stored", refused)
            else:
                return

    async def _conclude(
        self,
        lease: Lease,
        error: FetchError | None,
        said: str,
        tried: Callable[..., AttemptOutcome],
    ) -> str:
        """Record what this attempt means for the job."""
        if error is None:
            await run_in_threadpool(self._store.jobs.finish, lease, tried("done", said))
            return "done"
        decision = decide(lease, error, self._store.now())
        if isinstance(decision, RetryLater):
            outcome = "failed" if decision.counts else "not yet"
            await run_in_threadpool(
                self._store.jobs.reschedule,
                lease,
                tried(outcome, said),
                after=decision.after,
                failed=decision.counts,
                answered=isinstance(error, NotReady | Missing) and not isinstance(error, Unasked),
            )
            return outcome
        if isinstance(decision, Pause):
            await run_in_threadpool(
                self._store.sources.pause, lease, tried("paused", said), after=decision.after
            )
            return "paused"
        if isinstance(error, Missing) and await self._fetch.use_what_was_carried(lease):
            carried = "the sender has forgotten the run; its delivery carried the result"
            await run_in_threadpool(self._store.jobs.finish, lease, tried("carried", carried))
            return "carried"
        await run_in_threadpool(self._store.jobs.bury, lease, tried("dead", decision.reason))
        return "dead"

    def _complain(self, what: str, error: Exception) -> None:
        suppressed = self._complaints.allow(what, time.monotonic())
        if suppressed is not None:
            log.error(what, source=self._source.name, error=str(error), suppressed=suppressed)
