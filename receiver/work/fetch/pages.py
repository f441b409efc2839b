"""Listing a batch page by page, from the cursor in the job's progress."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from copy import deepcopy
from datetime import datetime
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import Missing, Refused, Unreadable
from receiver.providers.capabilities.batches import ListsPages
from receiver.providers.model import Page, Subject
from receiver.sender_api.calls import AnswerTooLarge, Calls
from receiver.work.fetch.listing_progress import log_stored, restart
from storage import FetchedBatch, Lease, ListingProgress, Store, Stored

MAX_PAGES = 10_000
"""Limit of pages in one attempt; a sender could give another cursor for ever."""


class PageReader:
    """Reads the pages of batches, and stores nothing."""

    def __init__(self, store: Store, calls: Calls, provider: ListsPages) -> None:
        self._store = store
        self._calls = calls
        self._provider = provider

    async def read(
        self, listing: ListingProgress, subject: Subject, batch: FetchedBatch
    ) -> AsyncGenerator[tuple[Page, datetime]]:
        """Yield each page with the start of its call, after writing its cursor to `listing`."""
        seen: set[str] = set()
        while True:
            began = self._store.now()
            page = await self._page(listing, subject, batch)
            if listing["cursor"] is None:
                seen.clear()  # page one, perhaps after a restart: its cursors may come again
            listing["listed"] += len(page.runs)
            is_short = batch.total is None or listing["listed"] < batch.total
            has_next = bool(page.cursor) and page.cursor not in seen and (page.has_more or is_short)
            has_next = has_next and len(seen) < MAX_PAGES
            listing["cursor"] = page.cursor if has_next else None
            seen.add(page.cursor or "")
            yield page, began
            if not has_next:
                return

    async def _page(self, listing: ListingProgress, subject: Subject, batch: FetchedBatch) -> Page:
        """Return the next page: page one where the cursor is refused, smaller where too large."""
        while True:
            size = listing.get("size", self._provider.page_size) or None
            request = self._provider.list_runs(subject, cursor=listing["cursor"], size=size)
            try:
                return self._provider.read_page(await self._calls.call(request), batch)
            except (AnswerTooLarge, Unreadable):  # smaller pages tell the good part from the bad
                smaller = (size or listing.get("refused", self._provider.page_size)) // 2
                if smaller == 0:
                    raise
                listing["size"] = smaller
            except (Refused, Missing) as error:
                if listing["cursor"] is not None:
                    restart(listing, error)
                elif size is not None and isinstance(error, Refused):
                    # allowed sizes are documented nowhere: leave the size to the sender
                    listing.update({"size": 0, "refused": size})
                else:
                    raise


class PagedListing:
    """Lists batches in pages; each page is a transaction of its own with its cursor."""

    def __init__(self, store: Store, calls: Calls, provider: ListsPages) -> None:
        self._store = store
        self._reader = PageReader(store, calls, provider)

    async def run(self, lease: Lease, subject: Subject, batch: FetchedBatch) -> None:
        """Store all pages; each one is stored while the next is fetched.

        Raises the FetchError or LeaseLost that stopped it; the pages before it are stored.
        """
        storing: asyncio.Task[None] | None = None
        try:
            listing = lease.progress["listing"]
            async with aclosing(self._reader.read(listing, subject, batch)) as pages:
                async for page, began in pages:
                    rows = await run_in_threadpool(self._store.results.rows_of, page.runs)
                    if storing is not None:
                        await storing
                    store = partial(
                        self._store.results.store_rows,
                        *(lease, rows),
                        fetched_at=began,
                        progress=deepcopy(lease.progress),  # the next page will change it
                    )
                    storing = asyncio.create_task(_store(lease, store))
                    del page, rows  # large, and the next ones come
        except asyncio.CancelledError:  # asked to stop: an error of the store no longer matters
            with suppress(Exception):
                await _finished(storing)
            raise
        except Exception:  # an error of the store is raised in place of this one
            await _finished(storing)
            raise
        await _finished(storing)


async def _store(lease: Lease, store: Callable[[], Stored]) -> None:
    log_stored(lease, await run_in_threadpool(store))


async def _finished(storing: asyncio.Task[None] | None) -> None:
    """Wait until a page is stored; raises the error that prevented it."""
    if storing is not None:
        await storing
