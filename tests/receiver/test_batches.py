"""Creating, adding to and waiting for batches: endpoint first, and a sentence wherever it stops."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.app import http_client
from receiver.batches import Batches, NewBatch, wait
from receiver.calls import Calls
from receiver.errors import UsageError
from receiver.providers import NewTask
from receiver.sandbox import SandboxServer
from receiver.sources import Source
from storage import Store, SubmittedRun
from tests.processes import serving
from tests.receiver import working
from tests.receiver.working import (
    a_batch,
    a_source,
    answering,
    known,
    ledger,
    make_due,
    stored,
    work_off,
)

running_sender, sender = working.running_sender, working.sender

PUBLIC = "http://127.0.0.1:9"
ADD = "POST /deepresearch/batches/*/tasks"
CREATE = "POST /deepresearch/batches"


def tasks(count: int) -> list[NewTask]:
    """New tasks with ids and inputs of their own."""
    rows = [{"query": f"q{number}", "row": number} for number in range(count)]
    return [NewTask(f"id{row['row']}", {**row, "id": f"id{row['row']}"}, row) for row in rows]


async def create(
    store: Store, source: Source, count: int = 1, *, client: Any = None, **watched: Any
) -> str:
    """Create a batch of so many tasks; returns its id."""
    told = {"created": lambda _: None, "added": lambda _: None, **watched}
    async with client or http_client() as wire:
        batches = Batches(store, Calls(source, wire), PUBLIC)
        return await batches.create(NewBatch("a name", "fast", None, tasks(count)), **told)


async def refusal(store: Store, source: Source, count: int = 1, **more: Any) -> str:
    with pytest.raises(UsageError) as raised:
        await create(store, source, count, **more)
    return str(raised.value)


def left_behind(store: Store) -> tuple[list[str], list[str]]:
    """The states of the endpoints, and of the jobs."""
    return [each["state"] for each in store.list_endpoints()], [
        each["status"] for each in working.jobs(store)
    ]


async def test_the_url_exists_before_the_batch_and_the_secret_before_the_first_task(
    store: Store, sender: SandboxServer
) -> None:
    seen: list[Any] = []

    def created(batch_id: str) -> None:
        (endpoint,) = store.list_endpoints()
        view = store.find_endpoint(endpoint["id"])
        assert view is not None
        seen.append((view.state, view.resource == batch_id, len(view.secrets)))
        seen.append(sender.state()["batches"][0]["counts"]["total"])
        seen.append(sender.state()["batches"][0]["webhook_url"].endswith(view.id))

    await create(store, a_source(sender.api_url), created=created)
    assert seen == [("open", True, 1), 0, True]


async def test_250_tasks_are_added_in_three_calls_of_a_hundred_at_most(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    told: list[int] = []
    batch_id = await create(store, a_source(sender.api_url), 250, added=told.append)
    assert sender.state()["calls"]["POST /deepresearch/batches/{batch_id}/tasks"] == 3
    assert told == [100, 200, 250]
    assert (ledger(store, batch_id).expected, ledger(store, batch_id).state) == (250, "open")


async def test_what_was_submitted_is_kept_as_the_input_of_its_run(
    store: Store, sender: SandboxServer
) -> None:
    await create(store, a_source(sender.api_url), 2)
    rows = working.sql(store, "SELECT task_id, input FROM runs ORDER BY id")
    assert [(row["task_id"], json.loads(row["input"])["row"]) for row in rows] == [
        ("id0", 0),
        ("id1", 1),
    ]


async def test_a_refusal_on_the_way_names_how_many_were_added_and_where_to_go_on(
    store: Store, sender: SandboxServer
) -> None:
    sender.add_fault(ADD, status=402, after=1)
    sentence = await refusal(store, a_source(sender.api_url), 250)
    (batch,) = store.list_batches()
    assert sentence == (
        f"100 of 250 tasks were added to {batch.batch_id}, then: the sender answered 402: "
        f"Insufficient credits. Once that is mended: "
        f"batch add {batch.batch_id} --tasks FILE --skip 100."
    )
    assert batch.expected == 100


async def test_a_lost_answer_to_an_addition_is_not_taken_for_a_refusal(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    sender.add_fault(ADD, kind="lost", after=1)
    sentence = await refusal(store, a_source(sender.api_url), 250)
    assert "100 of 250 tasks were added" in sentence
    assert "whether the next 100 were added" in sentence
    assert sender.state()["batches"][0]["counts"]["total"] == 200  # they were


async def test_where_to_go_on_counts_what_was_skipped_before(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    batch_id = await create(store, a_source(sender.api_url))
    sender.add_fault(ADD, status=402, after=1)
    async with http_client() as wire:
        batches = Batches(store, Calls(a_source(sender.api_url), wire), PUBLIC)
        with pytest.raises(UsageError, match=r"100 of 150 .* --skip 350\.$"):
            await batches.add(batch_id, tasks(150), added=lambda _: None, skipped=250)


async def test_a_429_while_creating_is_waited_out(store: Store, sender: SandboxServer) -> None:
    sender.add_fault(CREATE, status=429, retry_after=0)
    sender.add_fault(ADD, status=429, retry_after=0)
    began = time.monotonic()
    await create(store, a_source(sender.api_url))
    assert time.monotonic() - began < 10
    assert len(sender.state()["batches"]) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409])
async def test_a_refused_creation_leaves_nothing_behind(
    store: Store, sender: SandboxServer, status: int
) -> None:
    sender.add_fault(CREATE, status=status, error="No")
    sentence = await refusal(store, a_source(sender.api_url))
    assert sentence == f"The batch was not created: the sender answered {status}: No."
    assert left_behind(store) == (["closed"], ["done"])
    assert store.list_batches() == []


async def test_a_wrong_mode_a_missing_key_and_a_sender_out_of_reach_leave_nothing_behind(
    store: Store, sender: SandboxServer
) -> None:
    assert "RESULTSINK_SOURCES__VALYU__API_KEY" in await refusal(store, a_source(api_key=None))
    assert "ConnectError" in await refusal(store, a_source("http://127.0.0.1:1/v1"))
    assert left_behind(store) == (["closed"] * 2, ["done"] * 2)


async def test_a_secret_that_cannot_be_one_is_refused_and_the_batch_is_named(store: Store) -> None:
    made = {"batch_id": "batch_1", "webhook_secret": "short"}
    client = answering(lambda _: httpx.Response(200, json=made))
    sentence = await refusal(store, a_source(), client=client)
    assert "the sender made batch_1, but the signing secret is too short" in sentence
    assert "short:" not in sentence.replace("too short", "")


async def test_a_missing_public_url_is_said_before_anything_is_made(store: Store) -> None:
    async with http_client() as wire:
        batches = Batches(store, Calls(a_source(), wire), None)
        with pytest.raises(UsageError, match="RESULTSINK_PUBLIC_URL"):
            await batches.create(NewBatch(None, None, None, tasks(1)), created=print, added=print)
    assert left_behind(store) == ([], [])


@pytest.mark.parametrize("kind", ["lost", "cut", "html"])
async def test_a_batch_whose_creation_was_not_answered_is_found_by_our_url(
    store: Store, sender: SandboxServer, kind: str
) -> None:
    sender.add_fault(CREATE, kind=kind)
    sentence = await refusal(store, a_source(sender.api_url))
    (endpoint,) = store.list_endpoints()
    assert "The answer to the create call was lost" in sentence
    assert endpoint["id"] in sentence
    assert left_behind(store) == (["pending"], ["pending"])
    if kind == "html":
        return  # nothing was made; its check will say so
    (batch,) = sender.state()["batches"]
    working.more_tasks(sender, batch["batch_id"], 3)
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (ledger(store, batch["batch_id"]).state, len(stored(store))) == ("complete", 3)


async def test_a_batch_that_sends_no_webhook_ends_complete_by_its_check(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    batch_id = await create(store, a_source(sender.api_url), 120)
    sender.change(hold=False)
    assert stored(store) == []
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (ledger(store, batch_id).state, ledger(store, batch_id).stored) == ("complete", 120)


async def test_tasks_added_after_the_end_are_brought_in_too(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(add_after_end=True)
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 2)
    make_due(store)
    await work_off(store, source)
    assert ledger(store, batch_id).state == "complete"
    async with http_client() as wire:
        added: Callable[[int], None] = lambda _: None  # noqa: E731
        await Batches(store, Calls(source, wire), PUBLIC).add(batch_id, tasks(3), added=added)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).expected) == ("open", 5)
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).stored) == ("complete", 5)


async def test_a_cancel_is_asked_of_the_sender_and_its_answer_kept(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 2)
    async with http_client() as wire:
        await Batches(store, Calls(source, wire), PUBLIC).cancel(batch_id)
        with pytest.raises(UsageError, match=r"was not cancelled: .* Cannot cancel a batch"):
            await Batches(store, Calls(source, wire), PUBLIC).cancel(batch_id)
    assert ledger(store, batch_id).sender_status == "cancelled"
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).failed) == ("complete", 2)


# --- waiting --------------------------------------------------------------------------------------


async def waited(store: Store, batch_id: str, **more: Any) -> Any:
    given: dict[str, Any] = {"source": "valyu", "batches": None, "deadline": None, **more}
    return await wait(store, batch_id, progressed=lambda _: None, **given)


async def test_a_deadline_ends_the_wait_with_the_ledger_as_it_is(store: Store) -> None:
    known(store, "batch_1")
    store.add_runs("valyu", "batch_1", [SubmittedRun("r1", None, None)])
    began = time.monotonic()
    ended = await waited(store, "batch_1", deadline=0.2)
    assert (ended.state, ended.expected) == ("open", 1)
    assert 0.2 <= time.monotonic() - began < 5


async def test_a_wait_shows_how_far_it_is_and_asks_the_sender_now_and_then(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_id, _ = a_batch(sender, 3)
    known(store, batch_id)
    shown: list[int] = []
    async with http_client() as wire:
        await wait(
            store,
            batch_id,
            source=None,
            batches=Batches(store, Calls(source, wire), PUBLIC),
            deadline=0.6,
            progressed=lambda now: shown.append(now.expected),
            status_seconds=0.2,
        )
    assert (shown[0], shown[-1]) == (0, 3)


async def test_a_sender_in_trouble_does_not_end_a_wait(store: Store) -> None:
    known(store, "batch_1")
    async with answering(lambda _: httpx.Response(500)) as wire:
        batches = Batches(store, Calls(a_source(), wire), PUBLIC)
        ended = await waited(store, "batch_1", batches=batches, deadline=0.4, status_seconds=0.1)
    assert ended.state == "open"


async def test_a_wait_wakes_at_once_when_another_process_has_stored_without_asking_the_sender(
    database_url: str, tmp_path: Path, sender: SandboxServer
) -> None:
    settings = {
        "database_url": database_url,
        "sources__valyu__api_key": "val_test",
        "sources__valyu__base_url": sender.api_url,
    }
    sender.change(webhook=True, duration=(0.3, 0.3))
    with serving(tmp_path / "log", settings) as receiver, working.opened(database_url) as store:
        source = a_source(sender.api_url)
        async with http_client() as wire:
            batches = Batches(store, Calls(source, wire), receiver.url)
            new = NewBatch(None, None, None, tasks(2))
            batch_id = await batches.create(new, created=lambda _: None, added=lambda _: None)
        ended = await asyncio.wait_for(waited(store, batch_id), 20)
        late = datetime.now(UTC) - ended.completed_at
    assert (ended.state, ended.stored) == ("complete", 2)
    assert late.total_seconds() < 0.5
    calls = sender.state()["calls"]
    assert calls["GET /deepresearch/batches/{batch_id}"] == 1  # the receiver's own
