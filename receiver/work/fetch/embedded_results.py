"""Results embedded in signed bodies, used where the sender has forgotten the run."""

from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from receiver.providers.capabilities.runs import EmbedsResults
from receiver.work.fetch.context import FetchContext
from storage import EndpointView, FetchedRun, Lease


class EmbeddedResults:
    """Stores results that came with deliveries."""

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._store = context.store

    async def use(self, lease: Lease) -> bool:
        """Store the result that a signed body of a forgotten run embeds, marked as such.

        Returns False where there is none, or where its endpoint must not speak for the run.
        """
        if lease.event_id is None or lease.subject is None or lease.subject_kind == "batch":
            return False
        provider = self._context.provider
        if not isinstance(provider, EmbedsResults):
            return False
        endpoint = await self._context.endpoint_of(lease)
        if not await run_in_threadpool(self._may_speak_for, endpoint, lease):
            return False
        for body in await run_in_threadpool(self._store.events.bodies, lease.event_id):
            run = provider.read_embedded(body, lease.subject)
            if run is not None:
                await self._keep(lease, run, endpoint)
                return True
        return False

    async def _keep(self, lease: Lease, run: FetchedRun, endpoint: EndpointView | None) -> None:
        await run_in_threadpool(
            lambda: self._store.results.store(
                lease,
                [replace(run, batch_id=None)],  # a body proves nothing about its batch
                fetched_at=lease.created_at,
                progress=lease.progress,
                origin="delivery",
            )
        )
        await self._context.end_checks(lease, endpoint)

    def _may_speak_for(self, endpoint: EndpointView | None, lease: Lease) -> bool:
        """Return True where an endpoint's word about a run counts without the API's.

        The account's does, a run's own endpoint's about that run, and a batch's about runs that are
        known to be of that batch; none does where there is a result already.
        """
        assert lease.subject is not None  # noqa: S101  the caller looked
        known = self._store.runs.find(lease.source, lease.subject)
        if known is not None and known.result is not None:
            return False
        if endpoint is None or endpoint.kind == "account":
            return True
        if endpoint.kind != "batch":
            return endpoint.resource == lease.subject
        return known is not None and known.batch_id == endpoint.resource is not None
