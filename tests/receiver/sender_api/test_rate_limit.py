"""The pace of a source that many processes ask: kept in the store, on whichever database."""

import asyncio
import time

import pytest

from receiver.sender_api.rate_limit import LocalRateLimiter, SharedRateLimiter, rate_limiter_of
from storage import CannotStore, Store
from tests.receiver.working import a_source

SLACK = 0.02


async def moments(pace: SharedRateLimiter, turns: int) -> list[float]:
    """When so many turns came that were waited for together."""

    async def one() -> float:
        await pace.turn()
        return time.monotonic()

    return sorted(await asyncio.gather(*(one() for _ in range(turns))))


async def test_two_processes_together_are_no_faster_than_one(store: Store) -> None:
    ours, theirs = SharedRateLimiter(store, "valyu", 40.0), SharedRateLimiter(store, "valyu", 40.0)
    began = time.monotonic()
    both = await asyncio.gather(moments(ours, 12), moments(theirs, 12))
    asked = sorted(both[0] + both[1])
    assert asked[-1] - began >= 23 / 40 - SLACK
    for earlier, later in zip(asked, asked[8:], strict=False):
        assert later - earlier >= 5 / 40  # eight turns on, whatever the event loop did meanwhile


async def test_sources_have_a_pace_each(store: Store) -> None:
    slow, other = SharedRateLimiter(store, "slow", 0.01), SharedRateLimiter(store, "other", 1000.0)
    await slow.turn()
    async with asyncio.timeout(5):
        await moments(other, 10)


async def test_a_429_met_by_one_process_holds_back_the_others(store: Store) -> None:
    ours, theirs = (
        SharedRateLimiter(store, "valyu", 1000.0),
        SharedRateLimiter(store, "valyu", 1000.0),
    )
    await ours.turn()
    await theirs.hold(0.4)
    began = time.monotonic()
    await ours.turn()
    assert time.monotonic() - began >= 0.4 - SLACK


async def test_a_429_holds_back_who_waits_for_a_turn_already(store: Store) -> None:
    pace = SharedRateLimiter(store, "valyu", 5.0)
    await pace.turn()
    waiting = asyncio.create_task(pace.turn())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await pace.hold(0.5)
    await waiting
    assert time.monotonic() - began >= 0.5 - SLACK


async def test_whoever_leaves_keeps_nobody_waiting(store: Store) -> None:
    pace = SharedRateLimiter(store, "valyu", 50.0)
    leaving = [asyncio.create_task(pace.turn()) for _ in range(5)]
    staying = asyncio.create_task(moments(pace, 5))
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    async with asyncio.timeout(5):
        assert len(await staying) == 5


async def test_a_store_that_cannot_say_is_an_error_of_all_who_wait(store: Store) -> None:
    pace = SharedRateLimiter(store, "valyu", 50.0)
    store.close()
    told = await asyncio.gather(*(pace.turn() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, CannotStore) for error in told)


@pytest.mark.parametrize("shared", [True, False])
def test_only_a_database_of_many_processes_is_asked_for_turns(store: Store, shared: bool) -> None:
    store.database.is_shared = shared
    assert isinstance(
        rate_limiter_of(a_source(), store), SharedRateLimiter if shared else LocalRateLimiter
    )
