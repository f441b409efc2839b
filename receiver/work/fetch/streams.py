"""Listing a batch as one stream, stored in parts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import Missing, Refused, Unavailable
from receiver.providers.capabilities.batches import StreamsRuns
from receiver.providers.model import StreamItem, Subject
from receiver.sender_api.calls import Calls
from receiver.sender_api.stream_parsers import PARSERS, StreamParser
from receiver.telemetry.logs import get_logger
from receiver.work.fetch.listing_progress import restart, store_runs
from storage import FetchedBatch, FetchedRun, Lease, Store

log = get_logger("fetch")

MAX_STREAMED = 1_000_000
"""Limit of items read from one stream, which may be endless."""

ITEM_SECONDS = 60.0
"""A stream that brings no item for so long has ended, whatever keeps it open."""

PART_RUNS = 100
PART_BYTES = 2 * 1024 * 1024
"""Runs of a stream are stored together up to either limit."""


async def read_stream(
    calls: Calls,
    provider: StreamsRuns,
    subject: Subject,
    batch: FetchedBatch,
    *,
    cursor: str | None,
    defaults: Mapping[str, Any],
) -> AsyncGenerator[tuple[StreamItem, int]]:
    """Yield the items of one stream behind the cursor, each with its size; raises FetchError."""
    parser: StreamParser = PARSERS[provider.stream_format]()
    count = 0
    async with calls.stream(provider.stream_runs(subject, cursor=cursor), parser) as items:
        async for item, size in _until_silent(items):
            yield provider.read_streamed(item, batch, defaults=defaults), size
            count += 1
            if count > MAX_STREAMED:
                raise Unavailable(f"the stream has more than {MAX_STREAMED} items")


class StreamedListing:
    """Lists batches in streams; each part is a transaction of its own with its cursor."""

    def __init__(self, store: Store, calls: Calls, provider: StreamsRuns) -> None:
        self._store = store
        self._calls = calls
        self._provider = provider

    async def run(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, *, promised: int
    ) -> None:
        """Store the whole stream; one that ends early after something new is resumed.

        `promised` is how many new results the batch's status announces; the stream is left once
        they are here. Raises the FetchError or LeaseLost that stopped it.
        """
        listing = lease.progress["listing"]
        defaults = await run_in_threadpool(
            self._store.batches.defaults_of, lease.source, batch.batch_id
        )
        brought = _Brought(promised)
        while not brought.is_all:
            before, results = listing["cursor"], brought.results
            try:
                await self._read(lease, subject, batch, defaults=defaults, brought=brought)
            except (Refused, Missing) as error:
                if before is None:
                    raise
                restart(listing, error)
            except Unavailable as error:
                if listing["cursor"] == before and not brought.is_all:
                    raise
                log.info("a stream broke off and is resumed", source=lease.source, why=str(error))
            else:
                is_further = listing["cursor"] != before and brought.results > results
                if not is_further or not brought.promised > 0:
                    return

    async def _read(
        self,
        lease: Lease,
        subject: Subject,
        batch: FetchedBatch,
        *,
        defaults: Mapping[str, Any],
        brought: "_Brought",
    ) -> None:
        """Read one stream behind the cursor, to its end or until all that was promised is here."""
        listing = lease.progress["listing"]
        part = _Part(began=self._store.now())
        read = read_stream(
            self._calls,
            self._provider,
            subject,
            batch,
            cursor=listing["cursor"],
            defaults=defaults,
        )
        try:
            async with aclosing(read) as items:
                async for streamed, size in items:
                    part.add(streamed.run, streamed.cursor, size)
                    if part.is_full or brought.may_be_all_with(part):
                        brought.count(await self._store_part(lease, part))
                    if brought.is_all:
                        return
        except Unavailable:
            brought.count(await self._store_part(lease, part))  # what came before it is good
            raise
        brought.count(await self._store_part(lease, part))

    async def _store_part(self, lease: Lease, part: "_Part") -> int:
        """Store what was read since the last part; returns how many results are new."""
        listing = lease.progress["listing"]
        if self._provider.resumes and part.cursor is not None:
            listing["cursor"] = part.cursor
        if not part.runs:
            return 0
        return await store_runs(self._store, lease, part.take_runs(), fetched_at=part.began)


@dataclass
class _Brought:
    """Counts the new results of a stream against those that were promised.

    How many results of a part are new is known only once it is stored. After a part without a new
    one, the stream names much that is here already, and its own count says nothing.
    """

    promised: int
    results: int = 0
    is_repeating: bool = False

    @property
    def is_all(self) -> bool:
        return 0 < self.promised <= self.results

    def may_be_all_with(self, part: "_Part") -> bool:
        return not self.is_repeating and self.results + part.results >= self.promised > 0

    def count(self, new: int) -> None:
        self.results += new
        self.is_repeating = new == 0


class _Part:
    """Runs of a stream that are not stored yet."""

    def __init__(self, began: datetime) -> None:
        self.began = began
        self.runs: list[FetchedRun] = []
        self.cursor: str | None = None
        self.size = 0
        self.results = 0

    @property
    def is_full(self) -> bool:
        return len(self.runs) >= PART_RUNS or self.size >= PART_BYTES

    def add(self, run: FetchedRun | None, cursor: str | None, size: int) -> None:
        self.cursor = cursor or self.cursor
        if run is not None:
            self.runs.append(run)
            self.results += run.is_result
            self.size += size

    def take_runs(self) -> list[FetchedRun]:
        runs, self.runs, self.size, self.results = self.runs, [], 0, 0
        return runs


async def _until_silent(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the items; raises Unavailable after ITEM_SECONDS with comments alone, or nothing."""
    while True:
        try:
            async with asyncio.timeout(ITEM_SECONDS):
                item = await anext(items)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Unavailable(f"the stream brought nothing for {ITEM_SECONDS:.0f} s") from error
        yield item
