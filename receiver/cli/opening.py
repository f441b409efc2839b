"""What a command works with, opened from the settings and closed after it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from receiver.app import open_store
from receiver.cli.output import errors
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.settings import Settings, load
from receiver.sources import configured, named
from receiver.submissions.batches import BatchSubmissions
from receiver.submissions.tasks import TaskSubmissions
from storage import Store


@contextmanager
def opened() -> Iterator[Store]:
    """The store of the current settings, where there is one: looking makes no database."""
    store = open_store(load(), create=False)
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def batches_of(
    store: Store, settings: Settings, source: str
) -> AsyncIterator[BatchSubmissions]:
    """The use cases on one source's batches."""
    found = named(configured(settings), source)
    async with clients_for(found) as client:
        yield BatchSubmissions(store, Calls(found, client), settings.public_url, warn=errors.print)


@asynccontextmanager
async def tasks_of(store: Store, settings: Settings, source: str) -> AsyncIterator[TaskSubmissions]:
    """The use cases on one source's single runs."""
    found = named(configured(settings), source)
    async with clients_for(found) as client:
        yield TaskSubmissions(store, Calls(found, client), settings.public_url, warn=errors.print)
