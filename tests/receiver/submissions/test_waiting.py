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
from storage import CannotStore, Store, SubmittedRun
from tests import databases
from tests.processes import serving
from tests.receiver import working
from tests.receiver.conftest import SOON, broken, until
from tests.receiver.creating import (
    PUBLIC,
    create,
    locked,
    tasks,
)
from tests.receiver.working import (
    a_batch,
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


async def waited(store: Store, batch_id: str, **more: Any) -> Any:
    given: dict[str, Any] = {
        "source": "valyu",
        "batches": None,
        "deadline": None,
        **IGNORED,
        **more,
    }
    return await wait(store, batch_id, **given)


async def test_deadline_returns_the_ledger(store: Store) -> None:
    known(store, "batch_1")
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("r1", None, None)])
    began = time.monotonic()
    ended = await waited(store, "batch_1", deadline=0.2)
    assert (ended.state, ended.expected) == ("open", 1)
    assert time.monotonic() - began >= 0.2


async def test_wait_reports_progress_and_asks_sender(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_id, _ = a_batch(sender, 3)
    known(store, batch_id)
    shown: list[int] = []
    async with clients_for() as wire:
        waiting = asyncio.create_task(
            wait(
                store,
                batch_id,
                source=None,
                batches=BatchSubmissions(store, Calls(source, wire), PUBLIC),
                deadline=None,
                progressed=lambda now: shown.append(now.expected),
                unread=lambda error: pytest.fail(str(error)),
                status_seconds=0.1,
            )
        )
        await until(lambda: shown and shown[-1] == 3)
        working.more_tasks(sender, batch_id, 2)
        await until(lambda: shown[-1] == 5)
        waiting.cancel()
    assert shown[0] == 0


async def test_sender_in_trouble_keeps_waiting(store: Store) -> None:
    known(store, "batch_1")
    async with answering(lambda _: httpx.Response(500)) as wire:
        batches = BatchSubmissions(store, Calls(a_source(), wire), PUBLIC)
        ended = await waited(store, "batch_1", batches=batches, deadline=0.4, status_seconds=0.1)
    assert ended.state == "open"


@pytest.mark.usefixtures("short_locks")
async def test_unstorable_look_keeps_waiting(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 3)
    known(store, batch_id)
    async with clients_for() as wire:
        batches = BatchSubmissions(store, Calls(a_source(sender.api_url), wire), PUBLIC)
        with locked(store):
            ended = await waited(store, batch_id, batches=batches, deadline=1, status_seconds=0.1)
    assert ended.state == "open"
    assert sender.state()["calls"]["GET /deepresearch/batches/{batch_id}"] >= 1


async def test_unreadable_database_keeps_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.submissions.waiting.REREAD_SECONDS", 0.05)
    known(store, "batch_1")
    errors: list[Exception] = []
    with broken(store, "runs"):
        waiting = asyncio.create_task(waited(store, "batch_1", unread=errors.append))
        await until(lambda: errors)
    sql(store, "UPDATE batches SET state = 'complete'")
    ended = await asyncio.wait_for(waiting, 20)
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
        await until(lambda: errors)
        sql(store, "UPDATE batches SET state = 'complete'")
        ended = await asyncio.wait_for(waiting, 20)
    assert (ended.state, len(errors)) == ("complete", 1)


async def test_deadline_during_outage_says_so(
    store: Store,
) -> None:
    known(store, "batch_1")
    with (
        broken(store, "runs"),
        pytest.raises(CannotStore, match=r"cannot be read now: .*; the time to wait is over\.$"),
    ):
        await waited(store, "batch_1", deadline=0.2)


@pytest.mark.parametrize("early", ["before the tasks", "before their answer", "at both times"])
async def test_a_batch_that_is_fetched_before_its_tasks_are_stored_stays_complete(
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
    ended = await waited(store, batch_id, deadline=10)
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
        ended = await asyncio.wait_for(waited(store, batch_id), 20)
        late = datetime.now(UTC) - ended.completed_at
    assert (ended.state, ended.stored) == ("complete", 2)
    assert late.total_seconds() < SOON
    calls = sender.state()["calls"]
    assert calls["GET /deepresearch/batches/{batch_id}"] == 1  # the receiver's own
