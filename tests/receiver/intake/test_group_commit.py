"""An answer leaves after the COMMIT, or not at all; deliveries that wait share a transaction."""

import asyncio
import hashlib
import time
from typing import Any, cast

import pytest

from receiver.intake import group_commit
from receiver.intake.group_commit import GroupCommit
from storage import CannotStore, Store, VerifiedDelivery
from tests.behind import execute
from tests.databases import url_of
from tests.receiver.conftest import DEADLINE, SOON, events, locked, stuck, until


def delivery(key: str, body: bytes = b"{}") -> VerifiedDelivery:
    return VerifiedDelivery(
        source="valyu",
        endpoint_id=None,
        key=key,
        disposition="fetch",
        subject_kind="batch",
        subject="batch_1",
        headers="",
        body=body,
        digest=hashlib.sha256(body).digest(),
    )


def keys(store: Store) -> list[str]:
    """The event keys that another connection can see, in their order where a group keeps it."""
    found = execute(url_of(store), "SELECT key FROM events ORDER BY id")
    seen = [str(row["key"]) for row in found]
    return sorted(seen, key=lambda key: (len(key), key)) if store.is_shared else seen


async def all_of(group: GroupCommit, *deliveries: VerifiedDelivery) -> list[str | BaseException]:
    tasks = [group.commit(each) for each in deliveries]
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_answer_follows_the_commit(store: Store) -> None:
    group = GroupCommit(store)
    with locked(store):
        answer = asyncio.create_task(group.commit(delivery("a")))
        await asyncio.sleep(0.3)
        assert not answer.done()
        assert keys(store) == []
    assert await answer == "accepted"
    assert keys(store) == ["a"]


async def test_answered_delivery_is_visible_to_others(store: Store) -> None:
    group = GroupCommit(store)
    for number in range(50):
        assert await group.commit(delivery(str(number))) == "accepted"
        assert len(keys(store)) == number + 1


async def test_deliveries_gather_while_others_are_committed(store: Store) -> None:
    group = GroupCommit(store)
    with stuck(store):
        waiting = asyncio.create_task(all_of(group, *[delivery(str(n)) for n in range(300)]))
        await asyncio.sleep(0.05)
    assert await waiting == ["accepted"] * 300
    groups = {event["received_at"] for event in store.events.list_newest(limit=300)}
    assert len(groups) == 2  # 256 rows at most stand in one
    assert keys(store) == [str(n) for n in range(300)]


async def test_a_group_has_a_bounded_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GROUP_BYTES", 10)
    outcomes = await all_of(GroupCommit(store), *[delivery(str(n), b"x" * 6) for n in range(6)])
    assert outcomes == ["accepted"] * 6
    assert len({event["received_at"] for event in store.events.list_newest()}) == 3


async def test_duplicates_within_group_are_distinguished(store: Store) -> None:
    outcomes = await all_of(GroupCommit(store), *[delivery("a")] * 3, delivery("b"))
    assert outcomes == ["accepted", "duplicate", "duplicate", "accepted"]
    assert [event["deliveries"][0]["copies"] for event in events(store)] == [2, 0]


async def test_unstorable_row_fails_alone(store: Store) -> None:
    bad = delivery("\ud800")  # no text that a database could hold
    first, refused, last = await all_of(GroupCommit(store), delivery("a"), bad, delivery("b"))
    assert (first, last) == ("accepted", "accepted")
    assert isinstance(refused, CannotStore)
    assert keys(store) == ["a", "b"]


async def test_departed_waiter_cancels_nothing(store: Store) -> None:
    group = GroupCommit(store)
    with locked(store):
        gone, stays = (asyncio.create_task(group.commit(delivery(key))) for key in "ab")
        await asyncio.sleep(0.05)
        gone.cancel()
    assert await stays == "accepted"
    assert keys(store) == ["a", "b"]


async def test_late_commit_after_refusal_is_harmless(store: Store) -> None:
    group = GroupCommit(store, deadline=0.2)
    began = time.monotonic()
    with stuck(store):
        outcomes = await all_of(group, delivery("a"), delivery("b"))
        assert time.monotonic() - began < SOON
    assert [type(outcome) for outcome in outcomes] == [CannotStore, CannotStore]
    assert await GroupCommit(store).commit(delivery("a")) == "duplicate"
    assert keys(store) == ["a", "b"]


async def test_refused_before_submission_is_released(store: Store) -> None:
    group = GroupCommit(store, deadline=0.1)
    with stuck(store):
        flying = asyncio.create_task(all_of(group, delivery("a")))
        await asyncio.sleep(0)
        await asyncio.gather(flying, all_of(group, *[delivery(str(n)) for n in range(50)]))
        assert len(group._waiting) == 0
    assert await GroupCommit(store).commit(delivery("b")) == "accepted"
    assert keys(store) == ["a", "b"]


async def test_held_lock_refuses_within_two_seconds(store: Store) -> None:
    with locked(store):
        began = time.monotonic()
        with pytest.raises(CannotStore):
            await GroupCommit(store).commit(delivery("a"))
        assert time.monotonic() - began < SOON
    again = await GroupCommit(store, deadline=DEADLINE).commit(delivery("a"))
    assert again in ("accepted", "duplicate")  # a commit that came late is harmless


async def test_a_dead_writer_refuses_at_once(store: Store) -> None:
    store.close()
    began = time.monotonic()
    outcomes = await all_of(GroupCommit(store), *[delivery(str(n)) for n in range(600)])
    assert time.monotonic() - began < SOON
    assert {type(outcome) for outcome in outcomes} == {CannotStore}


async def test_ending_writer_leaves_nobody_waiting(store: Store) -> None:
    group, database = GroupCommit(store, deadline=DEADLINE), cast(Any, store.database)
    with stuck(store):
        waiting = asyncio.create_task(all_of(group, *[delivery(str(n)) for n in range(300)]))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(asyncio.to_thread(store.close))
        await until(lambda: database._writer._closing)
    await closing
    outcomes = await waiting
    assert outcomes[:256] == ["accepted"] * 256
    assert {type(outcome) for outcome in outcomes[256:]} == {CannotStore}


async def test_too_many_waiting_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 3)
    group = GroupCommit(store)
    with stuck(store):
        flying = asyncio.create_task(group.commit(delivery("flying")))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(all_of(group, *[delivery(str(n)) for n in range(3)]))
        await asyncio.sleep(0.01)
        with pytest.raises(CannotStore, match="Too many"):
            await group.commit(delivery("further"))
    assert [await flying, *await waiting] == ["accepted"] * 4


async def test_idle_leaves_nothing_running(store: Store) -> None:
    group = GroupCommit(store)
    await group.commit(delivery("a"))
    await until(lambda: group._watch is None)


async def test_failing_answer_keeps_no_other(store: Store) -> None:
    group = GroupCommit(store)
    results: list[object] = []
    faults: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))

    def fail(outcome: object) -> None:
        raise RuntimeError(f"cannot say {outcome}")

    group.submit(delivery("a"), fail)
    group.submit(delivery("b"), results.append)
    await until(lambda: results)
    assert results == ["accepted"]
    assert [str(fault) for fault in faults] == ["cannot say accepted"]


class Clock:
    """Seconds that pass when a test says so."""

    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


async def arrive(group: GroupCommit, clock: Clock, count: int, *, seconds: float) -> None:
    """Have a window's deliveries arrive evenly; they are one event."""
    for _ in range(count):
        clock.seconds += seconds / count
        group.submit(delivery("a"), lambda _: None)
    await until(lambda: not (group._waiting or group._committing))


async def test_fast_deliveries_are_noticed_while_they_last(store: Store) -> None:
    clock = Clock()
    group = GroupCommit(store, clock=clock)
    await group.commit(delivery("a"))  # the first window begins
    assert not group.is_busy()
    await arrive(group, clock, 60, seconds=0.101)
    assert group.is_busy()
    clock.seconds += 0.19
    assert group.is_busy()
    clock.seconds += 0.02
    assert not group.is_busy()


async def test_slow_deliveries_hold_up_nobody(store: Store) -> None:
    clock = Clock()
    group = GroupCommit(store, clock=clock)
    for _ in range(5):
        await arrive(group, clock, 40, seconds=0.101)
        assert not group.is_busy()
