"""Retries of calls that create something, and of writes of what the sender says only once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.errors import NotDone, RateLimited, ReceiverError, Unavailable, UsageError
from receiver.providers.model import Request
from receiver.sender_api.calls import Calls, NotReached
from storage import CannotStore

T = TypeVar("T")

RETRIES = 5
"""Limit of repetitions of a call that creates something, after a 429."""

STORE_SECONDS = 60.0
"""Time limit for storing what the sender says only once."""

STORE_RETRY_SECONDS = 0.5


async def with_retries(
    calls: Calls,
    request: Request,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Any:
    """Return the parsed answer, repeating the call after a 429 and after nothing else.

    After any other error the sender may have acted on it.
    """
    for _ in range(RETRIES):
        try:
            return await calls.call(request)
        except RateLimited as limited:
            await sleep(min(limited.retry_after or 1.0, 60.0))
    return await calls.call(request)


async def keep_trying(write: Callable[[], T], *, seconds: float = STORE_SECONDS) -> T:
    """Return what `write` does, repeated while the database is locked or the disk is full.

    Raises the last CannotStore after `seconds`, and any other error at once.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return await run_in_threadpool(write)
        except CannotStore:
            if time.monotonic() >= until:
                raise
            await asyncio.sleep(STORE_RETRY_SECONDS)


def may_have_acted(error: Exception) -> bool:
    """Return True where the sender may have done what was asked, although no good answer came."""
    return isinstance(error, Unavailable) and not isinstance(error, NotReached)


def failed(calls: Calls, sentence: str) -> ReceiverError:
    """Return NotDone; UsageError without an API key, for then the sender was not asked."""
    without_key = calls.source.settings.api_key is None
    return UsageError(sentence) if without_key else NotDone(sentence)
