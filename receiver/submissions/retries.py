"""Calls that create something, and what is told only once: repeated where that is harmless."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.errors import NotDone, RateLimited, ReceiverError, Unavailable, UsageError
from receiver.providers.model import Request
from receiver.sender_api.calls import Calls, NotReached
from storage import CannotStore

T = TypeVar("T")

PATIENCE = 5
"""How often a call that creates something is repeated after a 429."""

STORE_SECONDS = 60.0
"""For how long we try to store what the sender says only once."""

STORE_AGAIN_SECONDS = 0.5


async def patiently(calls: Calls, request: Request) -> Any:
    """Wait out a 429; nothing else is repeated, for the sender may have acted on it."""
    for _ in range(PATIENCE):
        try:
            return await calls.call(request)
        except RateLimited as limited:
            await asyncio.sleep(min(limited.retry_after or 1.0, 60.0))
    return await calls.call(request)


async def keep_trying(write: Callable[[], T], *, seconds: float = STORE_SECONDS) -> T:
    """Store what is told only once, however long the database is locked or the disk full.

    Raises the last StorageError when it has been for `seconds`.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return await run_in_threadpool(write)
        except CannotStore:
            if time.monotonic() >= until:
                raise
            await asyncio.sleep(STORE_AGAIN_SECONDS)


def may_have_acted(error: Exception) -> bool:
    """Whether the sender may have done what was asked although no good answer came."""
    return isinstance(error, Unavailable) and not isinstance(error, NotReached)


def failed(calls: Calls, sentence: str) -> ReceiverError:
    """What to raise where the sender refused; without a key nobody was asked: wrong use."""
    without_key = calls.source.settings.api_key is None
    return UsageError(sentence) if without_key else NotDone(sentence)
