"""Listing a batch: every run that the sender names, stored as it comes, from where the job stood.

In pages or in one stream; each part is a transaction of its own together with how far we are, so
that a listing which is cut off goes on where it was, and memory stays flat.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Missing, Refused, Unavailable, Unreadable
from receiver.providers.model import Page, Subject
from receiver.sender_api.calls import AnswerTooLarge, Calls
from receiver.sender_api.stream_parsers import (
    CsvRows,
    JsonDocuments,
    ServerSentEvents,
    StreamParser,
)
from receiver.telemetry.logs import get_logger
from storage import FetchedBatch, FetchedRun, Lease, ListingProgress, Store, Stored

log = get_logger("fetch")

MAX_RESTARTS = 3
"""How often one try begins a listing anew because its cursor was refused."""

MAX_PAGES = 10_000
"""Pages listed in one try; a sender that always has another key would be followed for ever."""

MAX_STREAMED = 1_000_000
"""Items read of one stream; one that never ends would be read for ever."""

ITEM_SECONDS = 60.0
"""A stream that brings no item for so long has ended, whatever keeps it open."""

PART_RUNS = 100
PART_BYTES = 2 * 1024 * 1024
"""Runs of a stream are stored together up to either."""

CUTTERS: Mapping[str, type[ServerSentEvents | JsonDocuments | CsvRows]] = {
    "events": ServerSentEvents,
    "documents": JsonDocuments,
    "rows": CsvRows,
}


class CursorsRefused(Unavailable):
    """However often a listing begins anew, it cannot be gone on with."""


class Listing:
    """Lists the batches of one source."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._store = store
        self._calls = calls
        self._provider = calls.source.provider

    async def run(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, *, missing: int
    ) -> datetime:
        """Store what the sender lists; returns when the listing began, by which what it did not
        name can be told. One that goes on behind an earlier one cannot tell: then it is now.

        `missing` is how many results the batch's status promises beyond those that are here: a
        stream that has brought so many is over, whether the sender ends it or not. Raises the
        FetchError that stopped it, and LeaseLost; what came before is stored, and how far it went
        stands in the lease's progress.
        """
        listing = lease.progress.setdefault("listing", {})
        if listing.get("cursor") is None:
            since = self._store.now().isoformat()
            listing.update({"since": since, "listed": 0, "cursor": None})
        listing["restarts"] = 0
        if self._provider.listing == "pages":
            await self._pages(lease, subject, batch)
        else:
            await self._stream(lease, subject, batch, missing)
        return (
            self._store.now()
            if self._provider.resumes
            else datetime.fromisoformat(listing["since"])
        )

    def forget(self, lease: Lease) -> None:
        """The next listing begins anew, but for a sender whose cursors outlive a listing."""
        if not self._provider.resumes:
            lease.progress.pop("listing", None)

    async def keep(self, lease: Lease, runs: Sequence[FetchedRun], fetched_at: datetime) -> int:
        """Store runs and how far the job is; returns how many results are new. Raises LeaseLost."""
        stored = await run_in_threadpool(
            partial(
                self._store.results.store,
                *(lease, runs),
                fetched_at=fetched_at,
                progress=lease.progress,
            )
        )
        if runs:
            _tell(lease, stored)
        return stored.new

    # --- pages ---------------------------------------------------------------------------------

    async def _pages(self, lease: Lease, subject: Subject, batch: FetchedBatch) -> None:
        """Each page is stored while the next is asked for; whatever came is stored at the end."""
        storing: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._followed(lease, subject, batch)) as pages:
                async for page, began in pages:
                    prepared = await run_in_threadpool(self._store.results.rows_of, page.runs)
                    if storing is not None:
                        await storing
                    store = partial(
                        self._store.results.store_rows,
                        *(lease, prepared),
                        fetched_at=began,
                        progress=deepcopy(lease.progress),  # the next page will change it
                    )
                    storing = asyncio.create_task(_store(lease, store))
                    del page, prepared  # large, and the next ones come
        except asyncio.CancelledError:  # asked to stop: what the store says matters no more
            await _ended(storing, at_peace=True)
            raise
        except Exception:  # what the store says comes first
            await _ended(storing)
            raise
        await _ended(storing)

    async def _followed(
        self, lease: Lease, subject: Subject, batch: FetchedBatch
    ) -> AsyncGenerator[tuple[Page, datetime]]:
        """The pages, with when each was asked for; the progress says how far that is."""
        listing = lease.progress["listing"]
        seen: set[str] = set()
        while True:
            began = self._store.now()
            page = await self._page(lease, subject, batch)
            if listing["cursor"] is None:
                seen.clear()  # this was page one, perhaps again: its cursors come again too
            listing["listed"] += len(page.runs)
            short = batch.total is None or listing["listed"] < batch.total
            goes_on = bool(page.cursor) and page.cursor not in seen and (page.has_more or short)
            goes_on = goes_on and len(seen) < MAX_PAGES
            listing["cursor"] = page.cursor if goes_on else None
            seen.add(page.cursor or "")
            yield page, began
            if not goes_on:
                return

    async def _page(self, lease: Lease, subject: Subject, batch: FetchedBatch) -> Page:
        """One page; from page one again when the cursor is refused, smaller when too large."""
        listing = lease.progress["listing"]
        while True:
            size = listing.get("size", self._provider.page_size) or None
            request = self._provider.list_runs(subject, cursor=listing["cursor"], size=size)
            try:
                return self._provider.read_page(await self._calls.call(request), batch)
            except (AnswerTooLarge, Unreadable):  # of a smaller one the good part can be read
                smaller = (size or listing.get("refused", self._provider.page_size)) // 2
                if smaller == 0:
                    raise
                listing["size"] = smaller
            except (Refused, Missing) as error:
                if listing["cursor"] is not None:
                    _begin_again(listing, error)
                elif size is not None and isinstance(error, Refused):
                    # nobody says which sizes it takes: its own, then
                    listing.update({"size": 0, "refused": size})
                else:
                    raise

    # --- streams -------------------------------------------------------------------------------

    async def _stream(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, missing: int
    ) -> None:
        """The whole stream; where it ends too early behind something new, the rest of it too."""
        listing = lease.progress["listing"]
        defaults = await run_in_threadpool(
            self._store.batches.defaults_of, lease.source, batch.batch_id
        )
        brought = _Brought(missing)
        while not brought.is_all:
            before, results = listing["cursor"], brought.results
            try:
                await self._read_stream(lease, subject, batch, defaults, brought)
            except (Refused, Missing) as error:
                if before is None:
                    raise
                _begin_again(listing, error)
            except Unavailable as error:
                if listing["cursor"] == before and not brought.is_all:
                    raise
                log.info("a stream broke off and is resumed", source=lease.source, why=str(error))
            else:
                is_further = listing["cursor"] != before and brought.results > results
                if not is_further or not brought.promised > 0:
                    return

    async def _read_stream(
        self,
        lease: Lease,
        subject: Subject,
        batch: FetchedBatch,
        defaults: Mapping[str, Any],
        brought: "_Brought",
    ) -> None:
        listing = lease.progress["listing"]
        request = self._provider.list_runs(subject, cursor=listing["cursor"], size=None)
        cutter: StreamParser = CUTTERS[self._provider.listing]()
        part = _Part(began=self._store.now())
        try:
            async with self._calls.stream(request, cutter) as items:
                async for item, size in _in_time(items):
                    told = self._provider.read_streamed(item, batch, defaults=defaults)
                    part.take(told.run, told.cursor, size)
                    if part.is_full or brought.may_be_all_with(part):
                        brought.count(await self._keep_part(lease, part))
                    if brought.is_all:
                        return
                    if part.items > MAX_STREAMED:
                        raise Unavailable(f"the stream has more than {MAX_STREAMED} items")
        except Unavailable:
            brought.count(await self._keep_part(lease, part))  # what came before is good
            raise
        brought.count(await self._keep_part(lease, part))

    async def _keep_part(self, lease: Lease, part: "_Part") -> int:
        listing = lease.progress["listing"]
        if self._provider.resumes and part.cursor is not None:
            listing["cursor"] = part.cursor
        if not part.runs:
            return 0
        runs, part.runs, part.size, part.results = part.runs, [], 0, 0
        return await self.keep(lease, runs, part.began)


@dataclass
class _Brought:
    """How many new results a stream has brought, of those that were promised.

    Which of a part are new is known only once it is stored. A part that brought nothing says that
    the stream names much that is here already: counting what it names tells nothing then.
    """

    promised: int
    results: int = 0
    in_vain: bool = False

    @property
    def is_all(self) -> bool:
        return 0 < self.promised <= self.results

    def may_be_all_with(self, part: "_Part") -> bool:
        return not self.in_vain and self.results + part.results >= self.promised > 0

    def count(self, new: int) -> None:
        self.results += new
        self.in_vain = new == 0


class _Part:
    """What came of a stream since the last part was stored."""

    def __init__(self, began: datetime) -> None:
        self.began = began
        self.runs: list[FetchedRun] = []
        self.cursor: str | None = None
        self.size = 0
        self.results = 0
        self.items = 0

    @property
    def is_full(self) -> bool:
        return len(self.runs) >= PART_RUNS or self.size >= PART_BYTES

    def take(self, run: FetchedRun | None, cursor: str | None, size: int) -> None:
        self.items += 1
        self.cursor = cursor or self.cursor
        if run is not None:
            self.runs.append(run)
            self.results += run.is_result
            self.size += size


async def _in_time(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The items, as long as they come: one that is held open with comments alone is at its end."""
    while True:
        try:
            async with asyncio.timeout(ITEM_SECONDS):
                item = await anext(items)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Unavailable(f"the stream brought nothing for {ITEM_SECONDS:.0f} s") from error
        yield item


async def _store(lease: Lease, store: Callable[[], Stored]) -> None:
    """Store a page beside what else is done."""
    _tell(lease, await run_in_threadpool(store))


async def _ended(storing: asyncio.Task[None] | None, *, at_peace: bool = False) -> None:
    """Wait until a page is stored; raises why it is not, unless that is to be let rest."""
    if storing is not None:
        with suppress(Exception) if at_peace else nullcontext():
            await storing


def _tell(lease: Lease, stored: Stored) -> None:
    log.info(
        "results stored",
        source=lease.source,
        job=lease.job_id,
        new=stored.new,
        versions=stored.versions,
        unchanged=stored.unchanged,
    )


def _begin_again(listing: ListingProgress, error: FetchError) -> None:
    listing.update({"cursor": None, "listed": 0, "restarts": listing["restarts"] + 1})
    if listing["restarts"] > MAX_RESTARTS:
        raise CursorsRefused(f"the page cursor is refused again and again: {error}") from error
