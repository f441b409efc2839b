"""Using what a signed body carried, where the sender has forgotten the run."""

from dataclasses import replace

from receiver.work.fetch.context import FetchContext
from storage import EndpointView, FetchedRun, Lease


class EmbeddedResults(FetchContext):
    """Stores results that came with deliveries."""

    async def use_what_was_carried(self, lease: Lease) -> bool:
        """Store what the signed body of a forgotten run carried, marked as such; or say False."""
        if lease.event_id is None or lease.subject is None or lease.subject_kind == "batch":
            return False
        endpoint = await self.endpoint_of(lease)
        if not await self.in_thread(self._may_speak_for, endpoint, lease):
            return False
        for body in await self.in_thread(self.store.events.bodies, lease.event_id):
            run = self.provider.read_carried(body, lease.subject)
            if run is not None:
                await self._keep_carried(lease, run, endpoint)
                return True
        return False

    async def _keep_carried(
        self, lease: Lease, run: FetchedRun, endpoint: EndpointView | None
    ) -> None:
        await self.in_thread(
            lambda: self.store.results.store(
                lease,
                [replace(run, batch_id=None)],  # what a body says of its batch proves nothing
                fetched_at=lease.created_at,
                progress=lease.progress,
                origin="delivery",
            )
        )
        await self.end_checks(lease, endpoint)

    def _may_speak_for(self, endpoint: EndpointView | None, lease: Lease) -> bool:
        """Whether an endpoint may tell of a run that the API can no longer say anything about.

        The account may, a run's own endpoint may of that run, and a batch's endpoint of runs that
        we know to be of that batch; never where there is a result already.
        """
        assert lease.subject is not None  # noqa: S101  the caller looked
        known = self.store.runs.find(lease.source, lease.subject)
        if known is not None and known.result is not None:
            return False
        if endpoint is None or endpoint.kind == "account":
            return True
        if endpoint.kind != "batch":
            return endpoint.resource == lease.subject
        return known is not None and known.batch_id == endpoint.resource is not None
