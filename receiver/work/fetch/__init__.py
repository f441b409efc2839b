"""One try at bringing in what an event announced, or what a check expects.

The webhook is a hint: the resource is asked for by id. Complete is what ids and counts say, never
what a listing says of its own end. Where one listing brings what many webhooks announce, a run's
event makes its batch be listed, and asks for the run alone only if that did not bring it.
"""

from receiver.errors import Forbidden, Missing, Refused, SourceRefused
from receiver.work.fetch.batches import FetchBatches
from receiver.work.fetch.embedded_results import EmbeddedResults
from receiver.work.fetch.runs import FetchRuns
from storage import Lease

REFUSALS = 8
"""So many refusals in a row are a job's own where nothing else can tell whose they are; with the
pauses between them, they take two hours."""


class Fetch(FetchRuns, FetchBatches, EmbeddedResults):
    """Brings in what one source's leases name."""

    async def fetch(self, lease: Lease) -> str:
        """Do what the job asks; returns one sentence once it is done.

        Raises NotReady while something is missing, another FetchError where a call failed, and
        LeaseLost when the job is somebody else's by now. What was stored on the way stays.
        """
        endpoint = await self.endpoint_of(lease)
        try:
            if lease.subject_kind == "batch":
                return await self.fetch_batch(lease, endpoint)
            return await self.fetch_run(lease, endpoint)
        except Forbidden as error:
            if await self._is_account_welcome() or await self._is_refused_often(lease):
                raise Refused(f"this alone is refused: {error}") from error
            raise

    async def _is_refused_often(self, lease: Lease) -> bool:
        """Count a refusal that no call can explain, in the job's progress."""
        if self.calls.probe is not None:
            return False
        lease.progress["refusals"] = lease.progress.get("refusals", 0) + 1
        await self.listing.keep(lease, [], self.store.now())
        return bool(lease.progress["refusals"] >= REFUSALS)

    async def _is_account_welcome(self) -> bool:
        """A 403 may speak of the account or of one resource: another call tells which.

        Raises Unavailable and the like where that call tells nothing.
        """
        if self.calls.probe is None:
            return False
        try:
            await self.calls.call(self.calls.probe)
        except SourceRefused:
            return False
        except (Missing, Refused):
            return True
        return True
