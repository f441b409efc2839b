"""Fetches: one attempt to fetch what an event announced, or what a check expects.

A webhook is a hint, so its resource is fetched by id. A batch is complete by its runs' ids and the
sender's counts, never because a listing ends. Where one listing brings what many webhooks announce,
a run's event has its batch listed, and the run itself is fetched only if that did not bring it.
"""

from receiver.errors import FetchError, Forbidden, Missing, Refused, SourceRefused
from receiver.sender_api.calls import Calls
from receiver.work.fetch.batches import BatchFetch
from receiver.work.fetch.context import FetchContext
from receiver.work.fetch.embedded_results import EmbeddedResults
from receiver.work.fetch.runs import RunFetch
from storage import Lease, Store

REFUSALS = 8
"""After so many refusals in a row, about two hours with the pauses between them, they are taken to
be about the job's resource alone, where no other call can tell."""


class Fetch:
    """Handler of one source's jobs of the kinds `fetch` and `check`."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._calls = calls
        self._context = FetchContext(store, calls)
        self._batches = BatchFetch(self._context)
        self._runs = RunFetch(self._context)
        self._embedded = EmbeddedResults(self._context)

    async def attempt(self, lease: Lease) -> str:
        """Fetch what the job is about; returns one sentence once that is stored.

        Raises NotReady while something is missing, another FetchError where a call failed, and
        LeaseLost where another worker has the job by now. What was stored before that stays.
        """
        endpoint = await self._context.endpoint_of(lease)
        try:
            if lease.subject_kind == "batch":
                return await self._batches.fetch(lease, endpoint)
            return await self._runs.fetch(lease, endpoint)
        except Forbidden as error:
            if await self._is_account_welcome() or await self._is_refused_often(lease):
                raise Refused(f"this alone is refused: {error}") from error
            raise

    async def salvage(self, lease: Lease, error: FetchError) -> str | None:
        """Use the result embedded in the job's delivery, where the sender has forgotten the run."""
        if isinstance(error, Missing) and await self._embedded.use(lease):
            return "the sender has forgotten the run; its delivery carried the result"
        return None

    async def _is_refused_often(self, lease: Lease) -> bool:
        """Count a 403 in the job's progress; returns True from the REFUSALS-th in a row.

        Counts nothing where another call can tell whether the account is refused.
        """
        if self._calls.probe is not None:
            return False
        lease.progress["refusals"] = lease.progress.get("refusals", 0) + 1
        await self._context.store_runs(lease, [], self._context.store.now())
        return bool(lease.progress["refusals"] >= REFUSALS)

    async def _is_account_welcome(self) -> bool:
        """Return True where another call shows that a 403 was about one resource alone.

        Raises Unavailable and the like where that call tells nothing.
        """
        if self._calls.probe is None:
            return False
        try:
            await self._calls.call(self._calls.probe)
        except SourceRefused:
            return False
        except (Missing, Refused):
            return True
        return True
