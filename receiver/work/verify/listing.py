"""The runs of a batch as the sender lists them, part by part; nothing is stored."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.concurrency import run_in_threadpool

from receiver.errors import Unavailable
from receiver.providers.capabilities.batches import ListsPages, StreamsRuns
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from receiver.work.fetch.pages import PageReader
from receiver.work.fetch.streams import PART_BYTES, PART_RUNS, read_stream
from storage import FetchedBatch, FetchedRun, ListingProgress, Store

Part = list[FetchedRun]


async def listed(
    store: Store, calls: Calls, subject: Subject, batch: FetchedBatch
) -> AsyncGenerator[Part]:
    """Yield the runs that the sender lists of a batch, some at a time; raises FetchError.

    Nothing for a sender that lists no runs.
    """
    provider = calls.source.provider
    if isinstance(provider, ListsPages):
        progress: ListingProgress = {"cursor": None, "listed": 0, "restarts": 0}
        reader = PageReader(store, calls, provider)
        async with aclosing(reader.read(progress, subject, batch)) as pages:
            async for page, _ in pages:
                yield list(page.runs)
    elif isinstance(provider, StreamsRuns):
        async for part in _streamed(store, calls, provider, subject, batch):
            yield part


async def _streamed(
    store: Store, calls: Calls, provider: StreamsRuns, subject: Subject, batch: FetchedBatch
) -> AsyncGenerator[Part]:
    """Yield the parts of a stream; one that breaks off after something new is resumed."""
    defaults = await run_in_threadpool(store.batches.defaults_of, calls.source.name, batch.batch_id)
    cursor: str | None = None
    while True:
        before, part, size = cursor, Part(), 0
        read = read_stream(calls, provider, subject, batch, cursor=cursor, defaults=defaults)
        try:
            async with aclosing(read) as items:
                async for item, weight in items:
                    cursor = item.cursor or cursor
                    if item.run is not None:
                        part.append(item.run)
                        size += weight
                    if len(part) >= PART_RUNS or size >= PART_BYTES:
                        yield part
                        part, size = Part(), 0
        except Unavailable:
            if not provider.resumes or cursor == before:
                raise
            yield part
            continue
        yield part
        return
