"""Patience with a sender that says "too many requests", while somebody waits for the outcome."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from receiver.errors import RateLimited

T = TypeVar("T")

TRIES = 4
"""Attempts in all, of which each but the last may end with a 429."""

LONGEST_SECONDS = 30.0
"""A sender that asks for a longer pause is not waited for."""


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return what a call returns, made again after a 429; raises the last RateLimited."""
    for _ in range(TRIES - 1):
        try:
            return await call()
        except RateLimited as limited:
            seconds = limited.retry_after or 1.0
            if seconds > LONGEST_SECONDS:
                raise
            await asyncio.sleep(seconds)
    return await call()
