"""What bringing in a run and bringing in a batch share."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.errors import Missing
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from receiver.work.fetch.listing import Listing
from storage import EndpointView, FetchedRun, Lease, NotFound, Store

T = TypeVar("T")

OUTPUT_MAY_BE_LATE = timedelta(minutes=15)
"""How long a completed run without an output is asked for again before it is believed."""

FEWEST_LOOKS = 3
"""So often it is seen without one at least."""

SEEN_WITHOUT_OUTPUT: Final = "seen_without_output"
"""In a job's progress: run id to when it was first seen so (ISO 8601), and how often."""


class FetchContext:
    """One source's way to its sender and to the store."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self.store = store
        self.calls = calls
        self.provider = calls.source.provider
        self.listing = Listing(store, calls)

    async def endpoint_of(self, lease: Lease) -> EndpointView | None:
        """The endpoint that a job came from, as it is now."""
        if lease.endpoint_id is None:
            return None
        return await self.in_thread(self.store.endpoints.show, lease.endpoint_id)

    async def bind(self, endpoint: EndpointView | None, resource: str) -> None:
        """Bind an endpoint to what it announced first, now that the API knows it too.

        One that was closed or bound meanwhile stays as it is: what was acknowledged is fetched.
        """
        if endpoint is None or endpoint.resource is not None or endpoint.state == "closed":
            return
        if endpoint.kind == "account":
            return
        with contextlib.suppress(NotFound):
            await self.in_thread(self.store.endpoints.bind, endpoint.id, resource)

    async def end_checks(self, lease: Lease, endpoint: EndpointView | None) -> None:
        """A run's own endpoint has nothing more to wait for; a batch's endpoint may have.

        So may one that was bound to another run meanwhile.
        """
        if endpoint is None or endpoint.kind in ("batch", "account") or lease.kind == "check":
            return
        now = await self.endpoint_of(lease)
        if now is not None and now.resource in (None, lease.subject):
            await self.in_thread(self.store.jobs.end_checks, now.id)

    async def ask(self, run: Subject) -> FetchedRun:
        """The run, by the first of the provider's calls that knows it."""
        *others, last = self.provider.run(run)
        for request in others:
            with contextlib.suppress(Missing):
                return self.provider.read_run(await self.calls.call(request), run)
        return self.provider.read_run(await self.calls.call(last), run)

    @staticmethod
    async def in_thread(work: Callable[..., T], *args: Any) -> T:
        """Call something that blocks."""
        return await run_in_threadpool(work, *args)


def with_output(run: FetchedRun, lease: Lease, *, now: datetime) -> FetchedRun:
    """Believe that a completed run has no output only after a while, and after looks enough.

    A sender whose parts agree late says "completed" first; taken at its word, the output would be
    lost for good. The while is counted from the end by the sender's stamp; where it gives none,
    from when this job first saw the run so. The job's progress keeps that moment, and how often it
    saw so: a clock may jump.
    """
    seen = lease.progress.get(SEEN_WITHOUT_OUTPUT, {})
    first, looks = seen.pop(run.run_id, (now.isoformat(), 0))
    if run.has_output or run.status != "completed":
        return run
    if run.completed_at is None:
        waited = now - datetime.fromisoformat(first)
    else:
        waited = min(now - lease.created_at, now - run.completed_at)
    if waited > OUTPUT_MAY_BE_LATE and looks + 1 >= FEWEST_LOOKS:
        return replace(run, has_output=True)
    seen[run.run_id] = first, looks + 1
    lease.progress[SEEN_WITHOUT_OUTPUT] = seen
    return run
