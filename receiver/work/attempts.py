"""One attempt at a job: handled, its outcome recorded, and logged."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Missing, NotReady, Unasked, Unavailable
from receiver.sender_api.calls import Calls
from receiver.telemetry.logs import get_logger
from receiver.work.check_schedule import decide
from receiver.work.handlers import Handler, Handlers
from receiver.work.retry import Bury, Pause, RetryLater
from storage import AttemptOutcome, CannotStore, Lease, LeaseLost, Store

log = get_logger("worker")


class Attempts:
    """Attempts the jobs of one source, each under its lease."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._store = store
        self._handlers = Handlers(store, calls)

    async def attempt(self, lease: Lease) -> FetchError | None:
        """Attempt a job, then record and log the outcome; returns the error where it is not done.

        Raises LeaseLost, and CannotStore where the outcome could not be recorded.
        """
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
        return None if outcome in ("done", "carried") else error

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
        first, reason = self._store.first_check, str(error)
        decision = decide(lease, error, self._store.now(), first_check=first)
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


def _has_answered(error: FetchError) -> bool:
    """Return True where the sender itself spoke of the job's subject."""
    return isinstance(error, NotReady | Missing) and not isinstance(error, Unasked)
