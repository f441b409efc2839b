"""Fetch context of one source: its store and calls, and the endpoints that its jobs came from."""

import contextlib
from collections.abc import Sequence
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from receiver.providers.base import Provider
from receiver.providers.capabilities.batches import HasBatches
from receiver.sender_api.calls import Calls
from receiver.work.fetch.listing_progress import store_runs
from storage import EndpointView, FetchedRun, Lease, NotFound, Store


class FetchContext:
    """The store and the calls that all fetches of one source share."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self.store = store
        self.calls = calls
        self.provider: Provider = calls.source.provider
        self.gathers = isinstance(self.provider, HasBatches) and self.provider.gathers

    async def store_runs(
        self, lease: Lease, runs: Sequence[FetchedRun], fetched_at: datetime
    ) -> None:
        """Store runs with the job's progress. Raises LeaseLost."""
        await store_runs(self.store, lease, runs, fetched_at=fetched_at)

    async def endpoint_of(self, lease: Lease) -> EndpointView | None:
        """Return the endpoint that a job came from, as it is now."""
        if lease.endpoint_id is None:
            return None
        return await run_in_threadpool(self.store.endpoints.show, lease.endpoint_id)

    async def bind(self, endpoint: EndpointView | None, resource: str) -> None:
        """Bind an endpoint to the resource it announced first, now that the API knows it too.

        An endpoint that was closed or bound meanwhile stays as it is; what was acknowledged is
        fetched all the same.
        """
        if endpoint is None or endpoint.resource is not None or endpoint.state == "closed":
            return
        if endpoint.kind == "account":
            return
        with contextlib.suppress(NotFound):
            await run_in_threadpool(self.store.endpoints.bind, endpoint.id, resource)

    async def end_checks(self, lease: Lease, endpoint: EndpointView | None) -> None:
        """End the checks of a run's own endpoint, for which nothing more is to come.

        Those of a batch's endpoint go on, and those of one bound to another run meanwhile.
        """
        if endpoint is None or endpoint.kind in ("batch", "account") or lease.kind == "check":
            return
        now = await self.endpoint_of(lease)
        if now is not None and now.resource in (None, lease.subject):
            await run_in_threadpool(self.store.jobs.end_checks, now.id)
