"""The rate limit of a source that many processes call: kept in the store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.sender_api.rate_limit import (
    LocalRateLimiter,
    RateLimiter,
    SharedRateLimiter,
    rate_limiter_of,
)
from storage import CannotStore, Store
from tests.processes import DEADLINE
from tests.receiver.working import a_source

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that only sleeping moves, of the processes and of the store."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.store = store
        for each in (store, store.database):
            monkeypatch.setattr(each, "now", lambda: NOON + timedelta(seconds=self.now))

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def limiter(self, per_second: float, source: str = "valyu") -> SharedRateLimiter:
        return SharedRateLimiter(self.store, source, per_second, clock=self, sleep=self.sleep)


@pytest.fixture
def clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(store, monkeypatch)


async def moments(clock: Clock, limiter: SharedRateLimiter, count: int) -> list[float]:
    """When so many requests might be made, one after the other."""
    found = []
    for _ in range(count):
        await limiter.acquire()
        found.append(clock())
    return found


async def test_two_processes_share_one_rate(clock: Clock) -> None:
    ours, theirs = clock.limiter(40.0), clock.limiter(40.0)
    found = [await moments(clock, limiter, 1) for limiter in (ours, theirs) * 12]
    assert [moment for (moment,) in found] == pytest.approx([n / 40 for n in range(24)], abs=1e-4)


async def test_waiting_calls_are_spread_over_seconds(store: Store, clock: Clock) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    limiter = SharedRateLimiter(store, "valyu", 4.0, clock=clock, sleep=sleep)
    await asyncio.gather(*(limiter.acquire() for _ in range(10)))
    assert waits == pytest.approx([n / 4 for n in range(10)], abs=1e-4)


async def test_idle_source_saves_up_no_calls(clock: Clock) -> None:
    limiter = clock.limiter(10.0)
    await limiter.acquire()
    clock.now += 60
    assert await moments(clock, limiter, 3) == pytest.approx([60.0, 60.1, 60.2], abs=1e-4)


async def test_each_source_has_a_limit_of_its_own(clock: Clock) -> None:
    await clock.limiter(0.01, "slow").acquire()
    assert (await moments(clock, clock.limiter(1000.0, "other"), 2))[0] == 0.0


async def test_429_of_one_process_holds_the_others(clock: Clock) -> None:
    ours, theirs = clock.limiter(1000.0), clock.limiter(1000.0)
    await ours.acquire()
    await theirs.hold(0.4)
    assert await moments(clock, ours, 1) == pytest.approx([0.4], abs=1e-4)


async def test_a_429_holds_back_a_waiting_call(store: Store, clock: Clock) -> None:
    limiters: list[SharedRateLimiter] = []

    async def meet_a_429_meanwhile(seconds: float) -> None:
        if seconds == pytest.approx(0.2, abs=1e-4):
            await limiters[0].hold(0.5)
        clock.now += seconds

    limiters.append(SharedRateLimiter(store, "valyu", 5.0, clock=clock, sleep=meet_a_429_meanwhile))
    assert await moments(clock, limiters[0], 2) == pytest.approx([0.0, 0.5], abs=1e-4)


@pytest.mark.parametrize("kind", ["shared", "local"])
async def test_shorter_hold_keeps_the_longer_one(store: Store, clock: Clock, kind: str) -> None:
    limiters: list[RateLimiter] = []

    async def be_held_twice_meanwhile(seconds: float) -> None:
        if clock.now < 1.0 < seconds:
            await limiters[0].hold(30.0)
            await limiters[0].hold(1.0)
        clock.now += seconds

    how: dict[str, Any] = {"clock": clock, "sleep": be_held_twice_meanwhile}
    limiters.append(
        SharedRateLimiter(store, "valyu", 0.5, **how)
        if kind == "shared"
        else LocalRateLimiter(0.5, **how)
    )
    await limiters[0].acquire()
    await limiters[0].acquire()
    assert clock.now == pytest.approx(30.0, abs=1e-4)


async def test_calls_of_one_second_are_reserved_at_most(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve, counts = store.sources.book_calls, list[int]()

    def counting(source: str, count: int, interval: float) -> float:
        counts.append(count)
        return reserve(source, count, interval)

    monkeypatch.setattr(store.sources, "book_calls", counting)
    limiter = clock.limiter(4.0)
    await asyncio.gather(*(limiter.acquire() for _ in range(10)))
    assert counts == [4, 4, 2]


async def test_a_cancelled_call_keeps_nobody_waiting(store: Store) -> None:
    limiter = SharedRateLimiter(store, "valyu", 50.0)
    leaving = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
    staying = asyncio.gather(*(limiter.acquire() for _ in range(5)))
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    async with asyncio.timeout(DEADLINE):
        await staying


async def test_failing_store_fails_all_who_wait(store: Store) -> None:
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


async def test_429_holds_back_a_waiting_call() -> None:
    now, limiters = [0.0], list[LocalRateLimiter]()

    async def meet_a_429_meanwhile(seconds: float) -> None:
        if now[0] == 0.0:
            await limiters[0].hold(0.5)
        now[0] += seconds

    limiters.append(LocalRateLimiter(5.0, clock=lambda: now[0], sleep=meet_a_429_meanwhile))
    await limiters[0].acquire()
    await limiters[0].acquire()
    assert now[0] == pytest.approx(0.5)


async def test_idle_source_saves_up_no_calls_in_memory() -> None:
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    limiter = LocalRateLimiter(10.0, clock=lambda: now[0], sleep=sleep)
    await limiter.acquire()
    now[0] = 60.0
    await limiter.acquire()
    await limiter.acquire()
    assert now[0] == pytest.approx(60.1)
