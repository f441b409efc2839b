"""The rate limit of a source that many processes call: kept in the store."""

import asyncio
import time

import pytest

from receiver.sender_api.rate_limit import LocalRateLimiter, SharedRateLimiter, rate_limiter_of
from storage import CannotStore, Store
from tests.receiver.working import a_source

SLACK = 0.02


async def moments(limiter: SharedRateLimiter, count: int) -> list[float]:
    """When so many requests might be made that were waited for together."""

    async def one() -> float:
        await limiter.acquire()
        return time.monotonic()

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


async def test_two_processes_together_are_no_faster_than_one(store: Store) -> None:
    ours, theirs = SharedRateLimiter(store, "valyu", 40.0), SharedRateLimiter(store, "valyu", 40.0)
    began = time.monotonic()
    both = await asyncio.gather(moments(ours, 12), moments(theirs, 12))
    slots = sorted(both[0] + both[1])
    assert slots[-1] - began >= 23 / 40 - SLACK
    for earlier, later in zip(slots, slots[8:], strict=False):
        assert later - earlier >= 5 / 40  # eight slots on, whatever the event loop did meanwhile


async def test_each_source_has_a_limit_of_its_own(store: Store) -> None:
    slow, other = SharedRateLimiter(store, "slow", 0.01), SharedRateLimiter(store, "other", 1000.0)
    await slow.acquire()
    async with asyncio.timeout(5):
        await moments(other, 10)


async def test_a_429_of_one_process_holds_back_the_others(store: Store) -> None:
    ours, theirs = (
        SharedRateLimiter(store, "valyu", 1000.0),
        SharedRateLimiter(store, "valyu", 1000.0),
    )
    await ours.acquire()
    await theirs.hold(0.4)
    began = time.monotonic()
    await ours.acquire()
    assert time.monotonic() - began >= 0.4 - SLACK


async def test_a_429_holds_back_a_waiting_call(store: Store) -> None:
    limiter = SharedRateLimiter(store, "valyu", 5.0)
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await limiter.hold(0.5)
    await waiting
    assert time.monotonic() - began >= 0.5 - SLACK


async def test_a_cancelled_call_keeps_nobody_waiting(store: Store) -> None:
    limiter = SharedRateLimiter(store, "valyu", 50.0)
    leaving = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
    staying = asyncio.create_task(moments(limiter, 5))
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    async with asyncio.timeout(5):
        assert len(await staying) == 5


async def test_a_store_that_fails_is_an_error_of_all_who_wait(store: Store) -> None:
    limiter = SharedRateLimiter(store, "valyu", 50.0)
    store.close()
    errors = await asyncio.gather(*(limiter.acquire() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, CannotStore) for error in errors)


@pytest.mark.parametrize("shared", [True, False])
def test_only_a_shared_store_keeps_the_limit(store: Store, shared: bool) -> None:
    store.database.is_shared = shared
    assert isinstance(
        rate_limiter_of(a_source(), store), SharedRateLimiter if shared else LocalRateLimiter
    )
