"""Working off: claim jobs for free slots, try each once, decide what its outcome means.

One worker in a process serves all sources, each with its own slots and pace. Leases are renewed
from a thread of its own, so that a busy event loop loses none.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import (
    FetchError,
    Missing,
    NotReady,
    RateLimited,
    Unasked,
    Unavailable,
)
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import Wire
from receiver.sender_api.rate_limit import pace_of
from receiver.sources import Source
from receiver.telemetry.logs import Throttle, get_logger
from receiver.work.fetch import Fetch
from receiver.work.retry import Again, Bury, Pause, decide, is_over
from storage import RENEW_SECONDS, CannotStore, Lease, LeaseLost, Store, Tried

POLL_SECONDS = 1.0
"""The clock beneath the wake-ups: how late a due job is noticed when no hint came."""

BEHIND_ACKS_SECONDS = 1.0
"""While deliveries come fast, jobs are begun no more often than this: answers go first."""

GIVING_WAY_SECONDS = 0.05
"""How often it is looked whether they still do."""

LOOK_SECONDS = 1.0
"""How often we look for jobs whose worker is gone, where there are others than us."""

CHECK_FIRST = timedelta(minutes=10)
CHECK_LONGEST = timedelta(hours=6)
CHECK_GIVES_UP = timedelta(days=30)

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
            source.name: _Slots(store, Calls(source, wire, pace=pace_of(source, store)), gives_way)
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
        renewing = _Renewing(self._store, self._leases, released)
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
                await run_in_threadpool(self._store.probe_sources_now)
                released = await run_in_threadpool(self._store.take_over)
            except CannotStore as error:
                log.warning("jobs cannot be taken over yet", error=str(error))
                await asyncio.sleep(POLL_SECONDS)
            else:
                if released:
                    log.info("jobs of an earlier process continue", jobs=released)
                return

    def _leases(self) -> list[Lease]:
        return [lease for slots in self._slots.values() for lease in list(slots.leases.values())]


class _Slots:
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
            run_in_threadpool(self._store.claim_jobs, self._source.name, limit=free, slots=slots)
        )
        try:
            leases = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # what is being claimed is claimed all the same
            with suppress(CannotStore):
                await run_in_threadpool(self._store.give_back, await claiming)
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
                await run_in_threadpool(self._store.give_back, leases)

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
        tried = partial(Tried, began, milliseconds)
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
                await run_in_threadpool(self._store.give_back, [lease])
            except CannotStore as refused:
                self._complain("results cannot be stored", refused)
            else:
                return

    async def _conclude(
        self,
        lease: Lease,
        error: FetchError | None,
        said: str,
        tried: Callable[..., Tried],
    ) -> str:
        """Record what this attempt means for the job."""
        if error is None:
            await run_in_threadpool(self._store.finish, lease, tried("done", said))
            return "done"
        decision = _decide(lease, error, self._store.now())
        if isinstance(decision, Again):
            outcome = "failed" if decision.counts else "not yet"
            await run_in_threadpool(
                self._store.reschedule,
                lease,
                tried(outcome, said),
                after=decision.after,
                failed=decision.counts,
                answered=isinstance(error, NotReady | Missing) and not isinstance(error, Unasked),
            )
            return outcome
        if isinstance(decision, Pause):
            await run_in_threadpool(
                self._store.pause_source, lease, tried("paused", said), after=decision.after
            )
            return "paused"
        if isinstance(error, Missing) and await self._fetch.use_what_was_carried(lease):
            carried = "the sender has forgotten the run; its delivery carried the result"
            await run_in_threadpool(self._store.finish, lease, tried("carried", carried))
            return "carried"
        await run_in_threadpool(self._store.bury, lease, tried("dead", decision.reason))
        return "dead"

    def _complain(self, what: str, error: Exception) -> None:
        suppressed = self._complaints.allow(what, time.monotonic())
        if suppressed is not None:
            log.error(what, source=self._source.name, error=str(error), suppressed=suppressed)


class _Renewing:
    """A thread that prolongs leases and frees those of workers that are gone.

    Where others work too, it looks for their lost leases every second: what a dead machine held
    starts elsewhere as soon as its lease has run out.
    """

    def __init__(
        self, store: Store, leases: Callable[[], list[Lease]], released: Callable[[], object]
    ) -> None:
        self._store = store
        self._leases = leases
        self._released = released
        self._stopped = threading.Event()
        self._look_seconds = LOOK_SECONDS if store.is_shared else RENEW_SECONDS
        self._renew_at = time.monotonic() + RENEW_SECONDS
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._look_seconds):
            try:
                self._renew_if_due()
                if self._store.release_expired():
                    self._released()
            except CannotStore as error:
                log.warning("leases could not be renewed", error=str(error))
            except Exception:  # the thread must outlive it: without it every lease runs out
                log.exception("renewing leases broke")

    def _renew_if_due(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        if leases := self._leases():
            self._store.renew(leases)
        self._renew_at = time.monotonic() + RENEW_SECONDS


def _decide(lease: Lease, error: FetchError, moment: datetime) -> Again | Bury | Pause:
    since = lease.missing_since if isinstance(error, Missing) else lease.trying_since
    age = moment - (since or moment)
    decision = decide(
        error,
        failures=lease.failures,
        waits=lease.waits,
        age=age.total_seconds(),
        draw=random.random(),  # noqa: S311  jitter, not a secret
    )
    if lease.kind != "check" or isinstance(decision, Pause):
        return decision
    return _decide_check(lease, error, decision, moment - (lease.trying_since or moment))


def _decide_check(
    lease: Lease, error: FetchError, decision: Again | Bury, age: timedelta
) -> Again | Bury:
    """Checks have a slower clock of their own, and ask again for a month.

    An answer that did not come is asked for as soon as any other job would; "almost" is asked
    about again after what the error says, doubling.
    """
    tries = lease.failures + lease.waits + 1
    if is_over(age.total_seconds(), CHECK_GIVES_UP.total_seconds(), tries):
        return Bury(f"{error} (given up after {CHECK_GIVES_UP.days} days)")
    every = lease.progress.get("every")
    first = CHECK_FIRST.total_seconds() if every is None else float(every)
    if isinstance(error, NotReady) and error.retry_after is not None:
        first = min(first, error.retry_after)
    doublings = 0 if every is not None else min(lease.waits, 10)
    after = min(first * 2.0**doublings, CHECK_LONGEST.total_seconds())
    if isinstance(error, Unavailable | RateLimited) and isinstance(decision, Again):
        return Again(min(after, decision.after), counts=decision.counts, reason=str(error))
    return Again(after, counts=False, reason=str(error))
