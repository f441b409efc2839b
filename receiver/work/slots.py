"""Slots of one source: jobs are claimed, attempted side by side, and ended."""

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
from receiver.work.handlers import Handler, Handlers
from receiver.work.retry import Bury, Pause, RetryLater
from storage import AttemptOutcome, CannotStore, Lease, LeaseLost, Store

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
        self._handlers = Handlers(store, calls)
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
            await self._attempt(lease)
        except LeaseLost as lost:
            log.warning("lease lost", source=lease.source, job=lease.job_id, reason=str(lost))
        except CannotStore as error:
            self._complain("results cannot be stored", error)
            await self._give_back_later(lease)
        except Exception:  # the lease runs out, and other jobs go on
            log.exception("an outcome could not be recorded", job=lease.job_id)

    async def _attempt(self, lease: Lease) -> None:
        """Attempt a job, then record and log the outcome."""
        clock = time.perf_counter()
        handler = self._handlers.of(lease.kind)
        sentence, error = await self._call(handler, lease)
        milliseconds = round((time.perf_counter() - clock) * 1000, 1)
        # by the clock as it is now: one that went back meanwhile must not delay the next attempt
        began = self._store.now() - timedelta(milliseconds=milliseconds)
        attempt = partial(AttemptOutcome, began, milliseconds)
        if error is None:
            outcome = "done"
            await run_in_threadpool(self._store.jobs.finish, lease, attempt(outcome, sentence))
        else:
            outcome = await self._conclude(lease, error, handler=handler, attempt=attempt)
        log.info(
            "attempt",
            source=lease.source,
            job=lease.job_id,
            kind=lease.kind,
            subject=lease.subject,
            event_id=lease.event_id,
            outcome=outcome,
            detail=sentence,
            ms=milliseconds,
        )

    async def _call(self, handler: Handler, lease: Lease) -> tuple[str, FetchError | None]:
        """Return the handler's sentence, or its error with the sentence in it."""
        try:
            return await handler.attempt(lease), None
        except (LeaseLost, CannotStore):
            raise
        except FetchError as error:
            return str(error), error
        except Exception as bug:
            log.exception("an attempt broke", source=lease.source, job=lease.job_id)
            broken = Unavailable(f"unexpected {type(bug).__name__}: {bug}")
            return str(broken), broken

    async def _conclude(
        self,
        lease: Lease,
        error: FetchError,
        *,
        handler: Handler,
        attempt: Callable[[str, str], AttemptOutcome],
    ) -> str:
        """Record what an error means for the job; returns the outcome in one word."""
        decision, reason = decide(lease, error, self._store.now()), str(error)
        match decision:
            case RetryLater():
                outcome = "failed" if decision.counts else "not yet"
                await run_in_threadpool(
                    self._store.jobs.reschedule,
                    lease,
                    attempt(outcome, reason),
                    after=decision.after,
                    failed=decision.counts,
                    answered=_has_answered(error),
                )
                return outcome
            case Pause():
                await run_in_threadpool(
                    self._store.sources.pause,
                    lease,
                    attempt("paused", reason),
                    after=decision.after,
                )
                return "paused"
            case Bury():
                salvaged = await handler.salvage(lease, error)
                if salvaged is not None:
                    await run_in_threadpool(
                        self._store.jobs.finish, lease, attempt("carried", salvaged)
                    )
                    return "carried"
                await run_in_threadpool(
                    self._store.jobs.bury, lease, attempt("dead", decision.reason)
                )
                return "dead"

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
        self._complaints.log(log.error, event, event, source=self._source.name, error=str(error))


def _has_answered(error: FetchError) -> bool:
    """Return True where the sender itself spoke of the job's subject."""
    return isinstance(error, NotReady | Missing) and not isinstance(error, Unasked)
