"""Listing a batch: every run that the sender names, stored as it arrives.

In pages or in one stream. Each part is stored together with how far the listing is, so that one
that is cut off continues from there, and memory stays flat.
"""

import math
from datetime import datetime

from receiver.providers.capabilities.batches import ListsPages, StreamsRuns
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from receiver.work.fetch.pages import PagedListing
from receiver.work.fetch.streams import StreamedListing
from storage import FetchedBatch, Lease, Store

RUNS_AS_A_PAGE = 100
"""So many runs of a stream cost a sender about what a page does."""


class BatchListing:
    """Lists the batches of one source."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._store = store
        provider = calls.source.provider
        self._paged, self._streamed = None, None
        if isinstance(provider, ListsPages):
            self._paged = PagedListing(store, calls, provider)
        elif isinstance(provider, StreamsRuns):
            self._streamed = StreamedListing(store, calls, provider)
        self.resumes = isinstance(provider, StreamsRuns) and provider.resumes
        self._page_size = provider.page_size if isinstance(provider, ListsPages) else RUNS_AS_A_PAGE

    async def run(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, *, promised: int
    ) -> datetime:
        """Store what the sender lists; returns when the listing began.

        A run that was not seen since then is not in the listing. One that resumes behind the
        cursor of an earlier listing cannot tell that, and returns now.

        `promised` is how many results the batch's status announces beyond those that are here: a
        stream that has brought so many is left, even if the sender does not end it. Raises the
        FetchError or LeaseLost that stopped the listing; what came before is stored, and the
        lease's progress says how far it is.
        """
        listing = lease.progress.setdefault("listing", {})
        if listing.get("cursor") is None:
            since = self._store.now().isoformat()
            listing.update({"since": since, "listed": 0, "cursor": None})
        listing["restarts"] = 0
        if self._paged is not None:
            await self._paged.run(lease, subject, batch)
        elif self._streamed is not None:
            await self._streamed.run(lease, subject, batch, promised=promised)
        if self.resumes:
            return self._store.now()
        return datetime.fromisoformat(listing["since"])

    def pages(self, runs: int) -> int:
        """Return how many pages a listing of so many runs has, or would have."""
        return max(1, math.ceil(runs / self._page_size))

    def forget(self, lease: Lease) -> None:
        """Let the next listing start anew, unless the sender's cursors outlive a listing."""
        if not self.resumes:
            lease.progress.pop("listing", None)
