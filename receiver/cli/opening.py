"""A command's store and use cases, opened from the settings and closed after it."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from receiver.cli.output import say

if TYPE_CHECKING:
    from receiver.settings import Settings
    from receiver.submissions.batches import BatchSubmissions
    from receiver.submissions.tasks import TaskSubmissions
    from storage import Store

T = TypeVar("T")


def begin_work() -> None:
    """End what `receiver.__main__` began: everything that the command needs is loaded.

    From now on garbage is collected, but not what was loaded, and Ctrl-C raises KeyboardInterrupt,
    so that what is open is closed.
    """
    if gc.isenabled():
        return
    gc.freeze()
    gc.enable()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def existing_store(settings: Settings | None = None) -> Iterator[Store]:
    """Open the store of the settings; raises NoDatabase where there is none: looking makes none."""
    with _store(settings, create=False) as store:
        yield store


@contextmanager
def store_to_fill(settings: Settings) -> Iterator[Store]:
    """Open the store of the settings; a SQLite file is made where there is none."""
    with _store(settings, create=True) as store:
        yield store


@contextmanager
def _store(settings: Settings | None, *, create: bool) -> Iterator[Store]:
    import storage
    from receiver.settings import load

    begin_work()
    settings = settings or load()
    first = timedelta(seconds=settings.first_check_seconds)
    store = storage.open(
        settings.database_url,
        keys_of(settings),
        schema=settings.database_schema,
        create=create,
        first_check=first,
    )
    try:
        yield store
    finally:
        store.close()


def currency_of(settings: Settings, source: str) -> str | None:
    """Return the currency in which a source's sender charges, or None where it is not known."""
    from receiver.sources import configured

    found = configured(settings).get(source)
    return None if found is None else found.provider.currency


def keys_of(settings: Settings) -> list[str]:
    """The keys that encrypt secrets at rest, newest first."""
    return [key.get_secret_value() for key in settings.encryption_keys]


def run(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end in an event loop of its own."""
    import asyncio

    return asyncio.run(work)


@asynccontextmanager
async def batches_of(
    store: Store, settings: Settings, source: str
) -> AsyncIterator[BatchSubmissions]:
    """Open the use cases on one source's batches."""
    from receiver.sender_api.calls import Calls
    from receiver.sender_api.client_pool import clients_for
    from receiver.sources import configured, named
    from receiver.submissions.batches import BatchSubmissions

    found = named(configured(settings), source)
    async with clients_for(found) as client:
        yield BatchSubmissions(store, Calls(found, client), settings.public_url, warn=say)


@asynccontextmanager
async def tasks_of(store: Store, settings: Settings, source: str) -> AsyncIterator[TaskSubmissions]:
    """Open the use cases on one source's single runs."""
    from receiver.sender_api.calls import Calls
    from receiver.sender_api.client_pool import clients_for
    from receiver.sources import configured, named
    from receiver.submissions.tasks import TaskSubmissions

    found = named(configured(settings), source)
    async with clients_for(found) as client:
        yield TaskSubmissions(store, Calls(found, client), settings.public_url, warn=say)
