"""Waiting for a batch: it ends at once with the batch, and costs the sender next to nothing."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.providers.model import Plan
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.submissions.batches import BatchSubmissions, NewBatch
from receiver.submissions.waiting import wait
from storage import CannotStore, Ledger, Store, SubmittedRun
from tests import databases
from tests.processes import DEADLINE, serving
from tests.receiver import working
from tests.receiver.conftest import SOON, broken, until
from tests.receiver.creating import (
    create,
    tasks,
)
from tests.receiver.working import (
    a_source,
    announce,
    answering,
    jobs,
    known,
    make_due,
    sql,
    work_off,
)

running_sender, sender = working.running_sender, working.sender


IGNORED: dict[str, Any] = {"progressed": lambda _: None, "unread": lambda _: None}


async def nobody(_: Ledger) -> None:
    """Check nothing."""


async def waited(store: Store, batch: str | Ledger, **more: Any) -> Any:
    given: dict[str, Any] = {"check": nobody, "deadline": None, **IGNORED, **more}
    known = store.batches.ledger(batch) if isinstance(batch, str) else batch
    (ended,) = await wait(store, [known], **given)
    return ended


async def test_deadline_returns_the_ledger(store: Store) -> None:
    known(store, "batch_1")
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("r1", None, None)])
    began = time.monotonic()
    ended = await waited(store, "batch_1", deadline=0.2)
    assert (ended.state, ended.expected) == ("open", 1)
    assert time.monotonic() - began >= 0.2


async def test_progress_is_reported(store: Store) -> None:
    known(store, "batch_1")
    shown: list[int] = []
    report: dict[str, Any] = {"progressed": lambda now: shown.append(now[0].expected)}
    waiting = asyncio.create_task(waited(store, "batch_1", **report))
    await until(lambda: shown == [0])
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("r1", None, None)])
    await until(lambda: shown[-1] == 1)
    waiting.cancel()


async def test_each_open_batch_is_checked(store: Store) -> None:
    known(store, "batch_1")
    known(store, "batch_2")
    sql(store, "UPDATE batches SET state = 'complete' WHERE batch_id = 'batch_2'")
    asked: list[str] = []

    async def check(batch: Ledger) -> None:
        asked.append(batch.batch_id)
        raise CannotStore("Locked.")

    both = [store.batches.ledger(name) for name in ("batch_1", "batch_2")]
    often: dict[str, Any] = {"ask_seconds": 0.05, "young_seconds": 0.0}
    waiting = asyncio.create_task(wait(store, both, check=check, deadline=None, **often, **IGNORED))
    await until(lambda: len(asked) > 2)
    sql(store, "UPDATE batches SET state = 'complete'")
    ended = await asyncio.wait_for(waiting, SOON)
    assert [batch.batch_id for batch in ended] == ["batch_1", "batch_2"]
    assert set(asked) == {"batch_1"}


async def test_young_batch_is_not_checked_yet(store: Store) -> None:
    known(store, "batch_1")
    asked: list[str] = []

    async def check(batch: Ledger) -> None:
        asked.append(batch.batch_id)

    await waited(store, "batch_1", check=check, deadline=0.3)
    assert asked == []
    sql(store, "UPDATE batches SET created_at = '2026-01-01'")
    waiting = asyncio.create_task(waited(store, "batch_1", check=check))
    await until(lambda: asked)
    waiting.cancel()
    assert asked == ["batch_1"]


async def test_broken_check_ends_the_wait(store: Store) -> None:
    known(store, "batch_1")

    async def check(batch: Ledger) -> None:
        raise ZeroDivisionError(batch.batch_id)

    with pytest.raises(ZeroDivisionError):
        await waited(store, "batch_1", check=check, young_seconds=0.0)


async def test_wait_that_is_left_ends(store: Store) -> None:
    known(store, "batch_1")
    assert (await waited(store, "batch_1", is_left=lambda: True)).state == "open"


async def test_unreadable_database_keeps_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.submissions.waiting.REREAD_SECONDS", 0.05)
    known(store, "batch_1")
    errors: list[Exception] = []
    batch = store.batches.ledger("batch_1")
    with broken(store, "runs"):
        waiting = asyncio.create_task(waited(store, batch, unread=errors.append))
        await until(lambda: errors)
    sql(store, "UPDATE batches SET state = 'complete'")
    ended = await asyncio.wait_for(waiting, DEADLINE)
    assert (ended.state, len(errors)) == ("complete", 1)


@pytest.mark.postgres
async def test_lost_connections_keep_waiting(store: Store, database_url: str) -> None:
    known(store, "batch_1")
    seen: list[Any] = []
    errors: list[Exception] = []
    with working.opened(database_url) as beside:
        how: dict[str, Any] = {"progressed": seen.append, "unread": errors.append}
        waiting = asyncio.create_task(waited(beside, "batch_1", **how))
        await until(lambda: seen)
        sql(
            store,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        sql(store, "UPDATE batches SET state = 'complete'")
        ended = await asyncio.wait_for(waiting, DEADLINE)
    assert ended.state == "complete"
    assert len(errors) <= 1  # an idle connection that was lost is replaced without a word


async def test_deadline_during_outage_says_so(
    store: Store,
) -> None:
    known(store, "batch_1")
    batch = store.batches.ledger("batch_1")
    with (
        broken(store, "runs"),
        pytest.raises(CannotStore, match=r"cannot be read now: .*; the time to wait is over\.$"),
    ):
        await waited(store, batch, deadline=0.2)


@pytest.mark.parametrize("early", ["before the tasks", "before their answer", "at both times"])
async def test_batch_fetched_before_its_tasks_stays_complete(
    store: Store, sender: SandboxServer, early: str
) -> None:
    source = a_source(sender.api_url)

    async def fetch_now() -> None:
        for batch in store.batches.list_newest():
            announce(store, batch.batch_id, body=json.dumps(len(jobs(store))).encode())
        await work_off(store, source)

    async def handler(request: httpx.Request) -> httpx.Response:
        adds_tasks = request.method == "POST" and request.url.path.endswith("/tasks")
        if adds_tasks and early != "before their answer":
            await fetch_now()
        async with httpx.AsyncClient(trust_env=False) as sender_itself:
            answer = await sender_itself.send(request)
        if adds_tasks and early != "before the tasks":
            await fetch_now()
        return answer

    batch_id = await create(store, source, 2, client=answering(handler))
    make_due(store)
    await work_off(store, source)
    ended = await waited(store, batch_id, deadline=DEADLINE)
    assert (ended.state, ended.stored) == ("complete", 2)
    inputs = [row["input"] for row in sql(store, "SELECT input FROM runs")]
    assert sorted(json.loads(each)["row"] for each in inputs) == [0, 1]


async def test_store_by_other_process_wakes_wait(
    database_url: str, tmp_path: Path, sender: SandboxServer
) -> None:
    settings = {
        **databases.settings(database_url),
        "sources__valyu__api_key": "val_test",
        "sources__valyu__base_url": sender.api_url,
    }
    sender.change(webhook=True, duration=(0.3, 0.3))
    with serving(tmp_path / "log", settings) as receiver, working.opened(database_url) as store:
        source = a_source(sender.api_url)
        async with clients_for() as wire:
            batches = BatchSubmissions(store, Calls(source, wire), receiver.url)
            new = NewBatch(Plan(), tasks(2))
            batch_id = await batches.create(new, created=lambda _: None, added=lambda _: None)
        ended = await asyncio.wait_for(waited(store, batch_id), DEADLINE)
        late = datetime.now(UTC) - ended.completed_at
    assert (ended.state, ended.stored) == ("complete", 2)
    assert late.total_seconds() < SOON
    calls = sender.state()["calls"]
    assert calls["GET /deepresearch/batches/{batch_id}"] == 1  # the receiver's own
