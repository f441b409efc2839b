"""Checks for somebody who waits: made by a worker where there is one, and here otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.work.waited_checks import WaitedChecks
from storage import AttemptOutcome, Store
from tests import databases
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.working import (
    NOT_FOUND,
    a_batch,
    a_source,
    answering,
    attempts,
    job,
    jobs,
    known,
    ledger,
    make_due,
    sql,
)

running_sender, sender = working.running_sender, working.sender


@asynccontextmanager
async def waited(
    store: Store, sender: SandboxServer, client: httpx.AsyncClient | None = None
) -> AsyncIterator[WaitedChecks]:
    """The checks of a command that has the source's API key."""
    async with client or clients_for() as wire:
        yield WaitedChecks(store, [Calls(a_source(sender.api_url), wire)])


async def test_nobody_serves_so_it_is_made_here(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 2)
    known(store, batch_id)
    store.close()
    with working.opened(databases.url_of(store)) as alone:
        async with waited(alone, sender) as checks:
            await checks.check(ledger(alone, batch_id))
        ended = ledger(alone, batch_id)
    assert (ended.state, ended.stored) == ("complete", 2)


async def test_worker_makes_it(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 2)
    known(store, batch_id)
    async with waited(store, sender) as checks:
        await asyncio.gather(
            checks.check(ledger(store, batch_id)),
            work_until_complete(store, sender, batch_id),
        )
    assert attempts(store) == ["done"]


async def work_until_complete(store: Store, sender: SandboxServer, batch_id: str) -> None:
    async with working.working(store, a_source(sender.api_url)):
        await until(lambda: ledger(store, batch_id).state == "complete")


async def test_call_is_made_here_without_a_worker(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.waited_checks.TAKEN_SECONDS", 0.05)
    batch_id, _ = a_batch(sender, 2)
    known(store, batch_id)
    async with waited(store, sender) as checks:
        await checks.check(ledger(store, batch_id))
    assert ledger(store, batch_id).state == "complete"


async def test_check_that_a_worker_has_made_is_not_made_again(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is pending once more, but later."""
    monkeypatch.setattr("receiver.work.waited_checks.TAKEN_SECONDS", 0.0)

    def is_served() -> bool:
        outcome = AttemptOutcome(store.now(), 1.0, "not yet")
        lease = working.claim(store)
        store.jobs.reschedule(lease, outcome, after=3600, failed=False, answered=True)
        return True

    monkeypatch.setattr(store, "is_served", is_served)
    batch_id, _ = a_batch(sender, 2)
    known(store, batch_id)
    async with waited(store, sender) as checks:
        await checks.check(ledger(store, batch_id))
    assert attempts(store) == ["not yet"]


async def test_without_a_key_nothing_is_made_here(store: Store) -> None:
    known(store, "batch_1")
    await WaitedChecks(store, []).check(ledger(store, "batch_1"))
    assert (attempts(store), job(store)["status"]) == ([], "pending")


async def test_given_up_check_is_tried_once_more(store: Store) -> None:
    known(store, "batch_1")
    checks = WaitedChecks(store, [])
    for _ in range(3):
        sql(store, "UPDATE jobs SET status = 'dead'")
        await checks.check(ledger(store, "batch_1"))
    assert len(jobs(store)) == 2


async def test_running_check_is_made_due_once_more(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.waited_checks.RUNNING_SECONDS", 0.01)
    known(store, "batch_1")
    make_due(store)
    lease = working.claim(store)
    waiting = asyncio.create_task(WaitedChecks(store, []).check(ledger(store, "batch_1")))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    outcome = AttemptOutcome(store.now(), 1.0, "not yet")
    store.jobs.reschedule(lease, outcome, after=60, failed=False, answered=True)
    await waiting
    assert working.claim(store).hurried_by == "wait"


async def test_cancelled_check_is_given_back(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.work.waited_checks.TAKEN_SECONDS", 0.0)
    known(store, "batch_1")
    asked = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.sleep(3600)
        return NOT_FOUND

    async with waited(store, sender, answering(never)) as checks:
        waiting = asyncio.create_task(checks.check(ledger(store, "batch_1")))
        await asked.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (job(store)["status"], job(store)["claims"]) == ("pending", 0)
