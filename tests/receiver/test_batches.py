"""Creating, adding to and waiting for batches: endpoint first, and a sentence wherever it stops."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.app import http_client
from receiver.batches import Batches, NewBatch
from receiver.calls import Calls
from receiver.errors import NotDone, UsageError
from receiver.providers import NewTask, Plan
from receiver.sandbox import SandboxServer
from receiver.sources import Source
from receiver.waiting import wait
from storage import Store, SubmittedRun
from tests.processes import serving, until
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
    store: Store,
    source: Source,
    count: int = 1,
    *,
    client: Any = None,
    how: dict[str, Any] | None = None,
    **watched: Any,
) -> str:
    """Create a batch of so many tasks; returns its id."""
    told = {"created": lambda _: None, "added": lambda _: None, **watched}
    async with client or http_client() as wire:
        batches = Batches(store, Calls(source, wire), PUBLIC, **(how or {}))
        return await batches.create(NewBatch(Plan("a name", "fast"), tasks(count)), **told)


async def refusal(store: Store, source: Source, count: int = 1, **more: Any) -> str:
    """What is said where the sender, or our database, is what stands in the way."""
    with pytest.raises(NotDone) as raised:
        await create(store, source, count, **more)
    return str(raised.value)


@contextmanager
def locked(store: Store, *, seconds: float | None = None) -> Iterator[None]:
    """Another process's transaction, to the end of the block or for so long."""
    with closing(
        sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = None if seconds is None else threading.Timer(seconds, other.execute, ["ROLLBACK"])
        if timer is not None:
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.join()


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
        with pytest.raises(NotDone, match=r"100 of 150 .* --skip 350\.$"):
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
    with pytest.raises(UsageError, match="RESULTSINK_SOURCES__VALYU__API_KEY"):
        await create(store, a_source(api_key=None))
    assert "ConnectError" in await refusal(store, a_source("http://127.0.0.1:1/v1"))
    assert left_behind(store) == (["closed"] * 2, ["done"] * 2)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("short", "The signing secret for batch_1 cannot be used (the signing secret is too short"),
        (None, "The sender gave no signing secret for batch_1: its webhooks cannot be verified"),
    ],
)
async def test_without_a_usable_secret_a_batch_is_made_all_the_same_and_found_by_its_check(
    store: Store, secret: str | None, why: str
) -> None:
    made = {"batch_id": "batch_1", "webhook_secret": secret}
    warnings: list[str] = []
    client = answering(accepting(None, ["r1"], created=made))
    assert await create(store, a_source(), client=client, how={"warn": warnings.append})
    (endpoint,) = store.list_endpoints()
    (warning,) = warnings
    assert warning.startswith(why)
    assert "found by checks, the first after ten minutes. If the sender shows you a secret: " in (
        warning
    )
    assert warning.endswith(f": endpoint secret {endpoint['id']}.")
    assert (endpoint["state"], endpoint["resource"]) == ("pending", "batch_1")
    assert (left_behind(store)[1], ledger(store, "batch_1").expected) == (["pending"], 1)


async def test_a_missing_public_url_is_said_before_anything_is_made(store: Store) -> None:
    async with http_client() as wire:
        batches = Batches(store, Calls(a_source(), wire), None)
        with pytest.raises(UsageError, match="RESULTSINK_PUBLIC_URL"):
            await batches.create(NewBatch(Plan(), tasks(1)), created=print, added=print)
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
        with pytest.raises(NotDone, match=r"was not cancelled: .* Cannot cancel a batch"):
            await Batches(store, Calls(source, wire), PUBLIC).cancel(batch_id)
    assert ledger(store, batch_id).sender_status == "cancelled"
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).failed) == ("complete", 2)


async def test_what_had_ended_before_a_cancel_or_a_status_is_brought_in_at_once(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_ids = [await create(store, source, 2) for _ in range(2)]
    async with http_client() as wire:
        batches = Batches(store, Calls(source, wire), PUBLIC)
        await batches.cancel(batch_ids[0])
        sender.change(hold=False)
        await batches.status(batch_ids[1])
    await work_off(store, source)  # nobody let ten minutes pass
    assert [ledger(store, each).state for each in batch_ids] == ["complete", "complete"]


@pytest.mark.parametrize("kind", ["lost", "html"])
async def test_a_cancel_is_done_although_the_status_after_it_cannot_be_seen(
    store: Store, sender: SandboxServer, kind: str
) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 2)
    sender.add_fault("GET /deepresearch/batches/*", kind=kind)
    async with http_client() as wire:
        await Batches(store, Calls(source, wire), PUBLIC).cancel(batch_id)
    await work_off(store, source)
    assert ledger(store, batch_id).state == "complete"


async def test_a_status_that_cannot_be_had_names_the_batch(
    store: Store, sender: SandboxServer
) -> None:
    batch_id = await create(store, a_source(sender.api_url))
    sender.add_fault("GET /deepresearch/batches/*", status=500)
    async with http_client() as wire:
        batches = Batches(store, Calls(a_source(sender.api_url), wire), PUBLIC)
        with pytest.raises(NotDone, match=f"The sender did not tell of {batch_id}: .* 500"):
            await batches.status(batch_id)


# --- what the sender accepted ---------------------------------------------------------------------


def accepting(
    told: int | None, runs: list[Any], *, created: Any = None
) -> Callable[[httpx.Request], httpx.Response]:
    """A sender that answers an addition with these runs, each an id or an object."""
    made = created or {"batch_id": "batch_1", "webhook_secret": "s" * 43}
    listed = [{"deepresearch_id": run} if isinstance(run, str) else run for run in runs]
    answer = {"batch_id": "batch_1", "tasks": listed}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/batches"):
            return httpx.Response(200, json=made)
        return httpx.Response(200, json=answer if told is None else {**answer, "added": told})

    return handler


def of(number: int) -> dict[str, str]:
    """The run of a task that was sent."""
    return {"deepresearch_id": f"r{number}", "task_id": f"id{number}"}


ALL_THREE = "id 'id0', id 'id1', id 'id2'. Look"


@pytest.mark.parametrize(
    ("told", "runs", "expected", "said"),
    [
        (2, [of(2), of(0)], 2, "accepted 2 of 3 tasks for batch_1, but not id 'id1'. Look"),
        (None, [of(2), of(0)], 2, "accepted 2 of 3 tasks for batch_1, but not id 'id1'. Look"),
        (2, [of(0), of(1), {"task_id": "id2"}], 2, "for batch_1, but not id 'id2'. Look"),
        (0, [], 0, f"accepted 0 of 3 tasks for batch_1, but not {ALL_THREE}"),
        (None, ["r1", "r2"], 2, f"but not 1 of these, without saying which: {ALL_THREE}"),
        (2, [of(0)], 2, "but not 1 of these, without saying which: id 'id1', id 'id2'. Look"),
    ],
)
async def test_tasks_that_the_sender_did_not_take_are_named_and_the_others_kept(
    store: Store, told: int | None, runs: list[Any], expected: int, said: str
) -> None:
    client, how = answering(accepting(told, runs)), {"warn": lambda _: None}
    sentence = await refusal(store, a_source(), 3, client=client, how=how)
    assert said in sentence
    assert sentence.endswith("from a file of its own with `batch add batch_1 --tasks FILE`.")
    assert ledger(store, "batch_1").expected == expected
    kept = working.sql(store, "SELECT task_id, input FROM runs WHERE task_id IS NOT NULL")
    assert all(json.loads(row["input"])["row"] == int(row["task_id"][2:]) for row in kept)


async def test_tasks_without_ids_are_named_by_their_place_in_the_file(store: Store) -> None:
    sent = [NewTask(None, {"query": "q"}, {"query": "q"}) for _ in range(150)]
    runs = [f"r{number}" for number in range(98)]
    known(store, "batch_1")
    async with answering(accepting(None, runs)) as wire:
        batches = Batches(store, Calls(a_source(), wire), PUBLIC)
        with pytest.raises(NotDone) as raised:
            await batches.add("batch_1", sent, added=lambda _: None, skipped=250)
    said = str(raised.value)
    assert "98 of 100 tasks for batch_1, but not 2 of these, without saying which: task 251" in said
    assert "task 270, 80 more. Look" in said
    assert "and the 50 tasks after them with `batch add batch_1 --tasks FILE --skip 350`." in said


async def test_tasks_that_are_counted_and_not_listed_are_expected_and_said_so(store: Store) -> None:
    warnings: list[str] = []
    client = answering(accepting(3, []))
    await create(store, a_source(), 3, client=client, how={"warn": warnings.append})
    assert warnings == [
        "The sender accepted 3 of the tasks for batch_1 without telling their ids: their results "
        "are found by listing the batch, but columns of the tasks file that the sender does not "
        "give back are not known for them."
    ]
    assert (ledger(store, "batch_1").expected, ledger(store, "batch_1").state) == (3, "open")


async def test_an_answer_that_says_nothing_is_not_taken_for_a_yes(store: Store) -> None:
    sentence = await refusal(store, a_source(), 3, client=answering(accepting(None, [])))
    assert sentence == (
        "0 of 3 tasks were added to batch_1; whether the next 3 were, the sender's answer does not "
        "say. Look with `batch status batch_1`; if they were not: "
        "batch add batch_1 --tasks FILE --skip 0."
    )


async def test_a_batch_that_ended_between_two_calls_is_not_added_to_again(
    store: Store, sender: SandboxServer
) -> None:
    sentence = await refusal(store, a_source(sender.api_url), 250)  # its tasks take no time
    (batch,) = store.list_batches()
    assert sentence == (
        f"100 of 250 tasks were added to {batch.batch_id}, then: the sender answered 400: Cannot "
        "add tasks to a batch that is completed. The batch has ended, so the other 150 need a "
        "batch of their own: batch create valyu --tasks FILE --skip 100."
    )


async def test_another_refusal_than_that_of_an_ended_batch_is_not_taken_for_it(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True, max_batch_tasks=120)
    sentence = await refusal(store, a_source(sender.api_url), 250)
    assert "A batch takes at most 120 tasks. Once that is mended: batch add" in sentence


# --- a database that cannot store -----------------------------------------------------------------


async def test_a_database_that_is_locked_while_a_batch_is_made_is_waited_for(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    sender.add_fault(CREATE, kind="slow", seconds=0.3)
    source = a_source(sender.api_url)
    creating = asyncio.create_task(create(store, source, 2))
    await asyncio.to_thread(until, lambda: sender.state()["batches"])
    with locked(store, seconds=2.5):
        batch_id = await creating
    view = store.find_endpoint_of("valyu", batch_id)
    assert view is not None
    assert (len(view.secrets), ledger(store, batch_id).expected) == (1, 2)


async def test_a_batch_that_cannot_be_stored_is_named_without_its_secret(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    sender.add_fault(CREATE, kind="slow", seconds=0.3)
    source = a_source(sender.api_url)
    creating = asyncio.create_task(refusal(store, source, 2, how={"store_seconds": 0.0}))
    await asyncio.to_thread(until, lambda: sender.state()["batches"])
    with locked(store):
        sentence = await creating
    (endpoint,), (made,) = store.list_endpoints(), sender.state()["batches"]
    assert f"made {made['batch_id']}, still without tasks, but it could not be stored" in sentence
    assert f"endpoint secret {endpoint['id']} --resource {made['batch_id']}." in sentence
    assert "database is locked. Its signing secret is lost" in sentence
    assert left_behind(store) == (["pending"], ["pending"])
    working.more_tasks(sender, made["batch_id"], 2)
    sender.change(hold=False)
    make_due(store)
    await work_off(store, source)  # as the sentence says, its endpoint finds it
    assert ledger(store, made["batch_id"]).state == "complete"


@pytest.mark.parametrize(
    ("count", "go_on"),
    [(120, "batch add {} --tasks FILE --skip 100."), (20, "batch status {}.")],
)
async def test_tasks_that_were_accepted_and_cannot_be_stored_are_not_to_be_added_again(
    store: Store, sender: SandboxServer, count: int, go_on: str
) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    sender.add_fault(ADD, kind="slow", seconds=0.3)
    how = {"store_seconds": 0.0}
    creating = asyncio.create_task(refusal(store, source, count, how=how))

    def total() -> int:
        return sum(batch["counts"]["total"] for batch in sender.state()["batches"])

    await asyncio.to_thread(until, total)
    with locked(store):
        sentence = await creating
    (batch,) = store.list_batches()
    first = min(count, 100)
    assert sentence.startswith(
        f"{first} of {count} tasks were added to {batch.batch_id}, but the last {first} could not"
    )
    assert "Do not add them again" in sentence
    assert sentence.endswith(f"Once that is mended: {go_on.format(batch.batch_id)}")
    sender.change(hold=False)
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch.batch_id).state, total()) == ("complete", first)


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


async def test_a_look_that_cannot_be_stored_does_not_end_a_wait(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, 3)
    known(store, batch_id)
    async with http_client() as wire:
        batches = Batches(store, Calls(a_source(sender.api_url), wire), PUBLIC)
        with locked(store):
            ended = await waited(store, batch_id, batches=batches, deadline=0.4, status_seconds=0.1)
    assert ended.state == "open"
    assert sender.state()["calls"]["GET /deepresearch/batches/{batch_id}"] >= 1


async def test_a_batch_that_is_fetched_before_its_addition_is_answered_stays_complete(
    database_url: str, tmp_path: Path, sender: SandboxServer
) -> None:
    settings = {
        "database_url": database_url,
        "sources__valyu__api_key": "val_test",
        "sources__valyu__base_url": sender.api_url,
    }
    sender.change(webhook=True)
    source, new = a_source(sender.api_url), NewBatch(Plan(), tasks(2))
    with serving(tmp_path / "log", settings) as receiver, working.opened(database_url) as store:
        for turn in range(20):
            if turn % 2:
                sender.add_fault(ADD, kind="slow", seconds=0.3)
            async with http_client() as wire:
                batches = Batches(store, Calls(source, wire), receiver.url)
                batch_id = await batches.create(new, created=lambda _: None, added=lambda _: None)
            ended = await waited(store, batch_id, deadline=10)
            assert (ended.state, ended.stored) == ("complete", 2), turn
    inputs = working.sql(store, "SELECT count(*) AS n FROM runs WHERE input LIKE '%row%'")
    assert inputs == [{"n": 40}]


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
            new = NewBatch(Plan(), tasks(2))
            batch_id = await batches.create(new, created=lambda _: None, added=lambda _: None)
        ended = await asyncio.wait_for(waited(store, batch_id), 20)
        late = datetime.now(UTC) - ended.completed_at
    assert (ended.state, ended.stored) == ("complete", 2)
    assert late.total_seconds() < 0.5
    calls = sender.state()["calls"]
    assert calls["GET /deepresearch/batches/{batch_id}"] == 1  # the receiver's own
