"""Added tasks: which of them the sender accepted, and which could be stored here."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from receiver.errors import NotDone
from receiver.providers.model import NewTask
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.submissions.batches import BatchSubmissions
from storage import CannotStore, Store
from tests.processes import until
from tests.receiver import working
from tests.receiver.creating import (
    ADD,
    CREATE,
    PUBLIC,
    accepting,
    create,
    left_behind,
    locked,
    refusal,
    resume_command,
    tasks,
)
from tests.receiver.working import (
    a_source,
    answering,
    known,
    ledger,
    make_due,
    work_off,
)

running_sender, sender = working.running_sender, working.sender


def of(number: int) -> dict[str, str]:
    """The run of a task that was sent."""
    return {"deepresearch_id": f"r{number}", "task_id": f"id{number}"}


ALL_THREE = "id 'id0', id 'id1', id 'id2'. Look"


@pytest.mark.parametrize(
    ("count", "runs", "expected", "words"),
    [
        (2, [of(2), of(0)], 2, "accepted 2 of 3 tasks for batch_1, but not id 'id1'. Look"),
        (None, [of(2), of(0)], 2, "accepted 2 of 3 tasks for batch_1, but not id 'id1'. Look"),
        (2, [of(0), of(1), {"task_id": "id2"}], 2, "for batch_1, but not id 'id2'. Look"),
        (0, [], 0, f"accepted 0 of 3 tasks for batch_1, but not {ALL_THREE}"),
        (None, ["r1", "r2"], 2, f"but not 1 of these, without saying which: {ALL_THREE}"),
        (2, [of(0)], 2, "but not 1 of these, without saying which: id 'id1', id 'id2'. Look"),
    ],
)
async def test_refused_tasks_named_and_others_kept(
    store: Store, count: int | None, runs: list[Any], expected: int, words: str
) -> None:
    client, how = answering(accepting(count, runs)), {"warn": lambda _: None}
    sentence = await refusal(store, a_source(), 3, client=client, how=how)
    assert words in sentence
    assert sentence.endswith("from a file of its own with `batch add batch_1 --tasks FILE`.")
    assert ledger(store, "batch_1").expected == expected
    kept = working.sql(store, "SELECT task_id, input FROM runs WHERE task_id IS NOT NULL")
    assert all(json.loads(row["input"])["row"] == int(row["task_id"][2:]) for row in kept)


async def test_tasks_without_ids_named_by_place(store: Store) -> None:
    sent = [NewTask(None, {"query": "q"}, {"query": "q"}) for _ in range(150)]
    runs = [f"r{number}" for number in range(98)]
    known(store, "batch_1")
    async with answering(accepting(None, runs)) as wire:
        batches = BatchSubmissions(store, Calls(a_source(), wire), PUBLIC)
        with pytest.raises(NotDone) as raised:
            await batches.add("batch_1", sent, added=lambda _: None, skipped=250)
    text = str(raised.value)
    assert "98 of 100 tasks for batch_1, but not 2 of these, without saying which: task 251" in text
    assert "task 270, 80 more. Look" in text
    assert text.endswith(f"The 50 tasks after them are added with: {resume_command(store)}.")


async def test_counted_but_unlisted_tasks_are_expected(store: Store) -> None:
    warnings: list[str] = []
    client = answering(accepting(3, []))
    await create(store, a_source(), 3, client=client, how={"warn": warnings.append})
    assert warnings == [
        "The sender accepted 3 of the tasks for batch_1 without telling their ids: their results "
        "are found by listing the batch, but columns of the tasks file that the sender does not "
        "give back are not known for them."
    ]
    assert (ledger(store, "batch_1").expected, ledger(store, "batch_1").state) == (3, "open")


async def test_unlisted_tasks_count_once_after_lost_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lost = store.database.write, [False, False, False, True, False]

    def losing(work: Callable[[Connection], Any]) -> Any:
        value = write(work)
        if lost.pop(0):
            raise CannotStore("The connection was lost.")
        return value

    known(store, "batch_1")
    monkeypatch.setattr(store.database, "write", losing)
    async with answering(accepting(3, [])) as wire:
        batches = BatchSubmissions(store, Calls(a_source(), wire), PUBLIC, warn=lambda _: None)
        await batches.add("batch_1", tasks(3), added=lambda _: None)
    assert (ledger(store, "batch_1").expected, lost) == (3, [])


async def test_empty_answer_is_no_success(store: Store) -> None:
    sentence = await refusal(store, a_source(), 3, client=answering(accepting(None, [])))
    assert sentence == (
        "0 of 3 tasks were added to batch_1; whether the next 3 were, the sender's answer does not "
        f"say. This looks again before it adds any: {resume_command(store)}."
    )


async def test_batch_ended_between_calls_stops_addition(
    store: Store, sender: SandboxServer
) -> None:
    sentence = await refusal(store, a_source(sender.api_url), 250)  # its tasks take no time
    (batch,) = store.batches.list_newest()
    assert sentence == (
        f"100 of 250 tasks were added to {batch.batch_id}, then: the sender answered 400: Cannot "
        "add tasks to a batch that is completed. The batch has ended, so the other 150 need a "
        "batch of their own: batch create valyu --tasks FILE --skip 100."
    )


async def test_other_refusals_are_no_ended_batch(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True, max_batch_tasks=120)
    sentence = await refusal(store, a_source(sender.api_url), 250)
    assert "A batch takes at most 120 tasks. Once that is mended: resultsink" in sentence


async def test_refusal_is_shown_without_a_look(store: Store) -> None:
    looked = list[str]()

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(400, json={"error": "No"})
        looked.append(request.url.path)
        first = {"batch_id": "batch_1", "status": "open", "counts": {"total": 0}}
        return httpx.Response(200 if len(looked) == 1 else 500, json=first)

    known(store, "batch_1")
    async with answering(handler) as wire:
        batches = BatchSubmissions(store, Calls(a_source(), wire), PUBLIC)
        with pytest.raises(NotDone, match=r"answered 400: No\. Once that is mended, run the"):
            await batches.add("batch_1", tasks(3), added=lambda _: None)


# --- a database that cannot store -----------------------------------------------------------------


@pytest.mark.usefixtures("short_locks")
async def test_locked_database_is_waited_for(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    sender.add_fault(CREATE, kind="slow", seconds=0.3)
    source = a_source(sender.api_url)
    creating = asyncio.create_task(create(store, source, 2))
    await asyncio.to_thread(until, lambda: sender.state()["batches"])
    with locked(store, seconds=1.0):
        batch_id = await creating
    view = store.endpoints.find_by_resource("valyu", batch_id)
    assert view is not None
    assert (len(view.secrets), ledger(store, batch_id).expected) == (1, 2)


@pytest.mark.usefixtures("short_locks")
async def test_unstorable_batch_named_without_secret(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    sender.add_fault(CREATE, kind="slow", seconds=0.3)
    source = a_source(sender.api_url)
    creating = asyncio.create_task(refusal(store, source, 2, how={"store_seconds": 0.0}))
    await asyncio.to_thread(until, lambda: sender.state()["batches"])
    with locked(store):
        sentence = await creating
    (endpoint,), (made,) = store.endpoints.list_all(), sender.state()["batches"]
    assert f"made {made['batch_id']}, still without tasks, but it could not be stored" in sentence
    assert f"endpoint secret {endpoint['id']} --resource {made['batch_id']}." in sentence
    assert sentence.endswith(f"Once that is mended: {resume_command(store)}.")
    locked_out = "lock timeout" if store.is_shared else "database is locked"
    assert re.search(rf"{locked_out}.*\. Its signing secret is lost", sentence)
    assert left_behind(store) == (["pending"], ["pending"])
    working.more_tasks(sender, made["batch_id"], 2)
    sender.change(hold=False)
    make_due(store)
    await work_off(store, source)  # as the sentence says, its endpoint finds it
    assert ledger(store, made["batch_id"]).state == "complete"


@pytest.mark.usefixtures("short_locks")
@pytest.mark.parametrize("count", [120, 20])
async def test_accepted_unstorable_tasks_not_added_again(
    store: Store, sender: SandboxServer, count: int
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
    (batch,) = store.batches.list_newest()
    first = min(count, 100)
    assert sentence.startswith(
        f"{first} of {count} tasks were added to {batch.batch_id}, but the last {first} could not"
    )
    assert sentence.endswith(f"does not add them again: {resume_command(store)}.")
    (known,) = store.submissions.list_all()
    async with clients_for() as wire:
        batches = BatchSubmissions(store, Calls(source, wire), PUBLIC)
        await batches.resume(known, created=lambda _: None, added=lambda _: None)
    sender.change(hold=False)
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch.batch_id).state, total()) == ("complete", count)
