"""Creating, adding to and waiting for batches: endpoint first, and a sentence wherever it stops."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from receiver.errors import NotDone, UsageError
from receiver.providers.model import Plan
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.submissions.batches import BatchSubmissions, NewBatch
from storage import Store
from tests.receiver import working
from tests.receiver.creating import (
    ADD,
    CREATE,
    PUBLIC,
    accepting,
    create,
    left_behind,
    refusal,
    resume_command,
    tasks,
)
from tests.receiver.working import (
    a_source,
    answering,
    ledger,
    make_due,
    stored,
    work_off,
)

running_sender, sender = working.running_sender, working.sender


async def test_url_precedes_batch_secret_precedes_tasks(
    store: Store, sender: SandboxServer
) -> None:
    seen: list[Any] = []

    def created(batch_id: str) -> None:
        (endpoint,) = store.endpoints.list_all()
        view = store.endpoints.find(endpoint["id"])
        assert view is not None
        seen.append((view.state, view.resource == batch_id, len(view.secrets)))
        seen.append(sender.state()["batches"][0]["counts"]["total"])
        seen.append(sender.state()["batches"][0]["webhook_url"].endswith(view.id))

    await create(store, a_source(sender.api_url), created=created)
    assert seen == [("open", True, 1), 0, True]


async def test_large_file_takes_several_calls(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    counts: list[int] = []
    batch_id = await create(store, a_source(sender.api_url), 250, added=counts.append)
    assert sender.state()["calls"]["POST /deepresearch/batches/{batch_id}/tasks"] == 3
    assert counts == [100, 200, 250]
    assert (ledger(store, batch_id).expected, ledger(store, batch_id).state) == (250, "open")


async def test_submission_is_kept_as_input(store: Store, sender: SandboxServer) -> None:
    await create(store, a_source(sender.api_url), 2)
    rows = working.sql(store, "SELECT task_id, input FROM runs ORDER BY id")
    assert [(row["task_id"], json.loads(row["input"])["row"]) for row in rows] == [
        ("id0", 0),
        ("id1", 1),
    ]


async def test_refusal_names_count_and_next_command(store: Store, sender: SandboxServer) -> None:
    sender.add_fault(ADD, status=402, after=1)
    sentence = await refusal(store, a_source(sender.api_url), 250)
    (batch,) = store.batches.list_newest()
    assert sentence == (
        f"100 of 250 tasks were added to {batch.batch_id}, then: the sender answered 402: "
        f"Insufficient credits. Once that is mended: {resume_command(store)}."
    )
    assert batch.expected == 250  # the tasks of the whole file


async def test_lost_addition_answer_is_found_at_once(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    sender.add_fault(ADD, kind="lost", after=1)
    batch_id = await create(store, a_source(sender.api_url), 250)
    assert sender.state()["batches"][0]["counts"]["total"] == 250
    inputs = working.sql(store, "SELECT run_id FROM runs WHERE input IS NOT NULL")
    assert (ledger(store, batch_id).expected, len(inputs)) == (250, 250)


async def test_addition_not_arrived_is_not_repeated_yet(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    sender.add_fault(ADD, kind="reset", after=1)
    sentence = await refusal(store, a_source(sender.api_url), 250)
    assert "100 of 250 tasks were added" in sentence
    assert sentence.endswith(f"looks again before it adds any: {resume_command(store)}.")
    assert sender.state()["batches"][0]["counts"]["total"] == 100


async def test_refused_addition_can_be_resumed(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    batch_id = await create(store, a_source(sender.api_url))
    sender.add_fault(ADD, status=402, after=1)
    async with clients_for() as wire:
        batches = BatchSubmissions(store, Calls(a_source(sender.api_url), wire), PUBLIC)
        with pytest.raises(NotDone, match=r"100 of 150 .* --resume sub_\w+\.$"):
            await batches.add(batch_id, tasks(150), added=lambda _: None, skipped=250)


async def test_rate_limit_while_creating_is_waited_out(store: Store) -> None:
    answer, limited = accepting(1, ["r1"]), set[str]()
    answered: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path not in limited:
            limited.add(path)
            return httpx.Response(429, json={}, headers={"retry-after": "0.01"})
        answered.append(path)
        return answer(request)

    batch_id = await create(store, a_source(), client=answering(handler))
    assert len(answered) == 2
    assert ledger(store, batch_id).expected == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409])
async def test_a_refused_creation_leaves_nothing_behind(
    store: Store, sender: SandboxServer, status: int
) -> None:
    sender.add_fault(CREATE, status=status, error="No")
    sentence = await refusal(store, a_source(sender.api_url))
    assert sentence == f"The batch was not created: the sender answered {status}: No."
    assert left_behind(store) == (["closed"], ["done"])
    assert store.batches.list_newest() == []


async def test_early_failure_leaves_nothing_behind(store: Store, sender: SandboxServer) -> None:
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
async def test_batch_without_secret_found_by_check(
    store: Store, secret: str | None, why: str
) -> None:
    made = {"batch_id": "batch_1", "webhook_secret": secret}
    warnings: list[str] = []
    client = answering(accepting(None, ["r1"], created=made))
    assert await create(store, a_source(), client=client, how={"warn": warnings.append})
    (endpoint,) = store.endpoints.list_all()
    (warning,) = warnings
    assert warning.startswith(why)
    assert "found by checks, the first after 2 minutes. If the sender shows you a secret: " in (
        warning
    )
    assert warning.endswith(f": endpoint secret {endpoint['id']}.")
    assert (endpoint["state"], endpoint["resource"]) == ("pending", "batch_1")
    assert (left_behind(store)[1], ledger(store, "batch_1").expected) == (["pending"], 1)


async def test_missing_public_url_stops_before_creation(store: Store) -> None:
    async with clients_for() as wire:
        batches = BatchSubmissions(store, Calls(a_source(), wire), None)
        with pytest.raises(UsageError, match="RESULTSINK_PUBLIC_URL"):
            await batches.create(NewBatch(Plan(), tasks(1)), created=print, added=print)
    assert left_behind(store) == ([], [])


@pytest.mark.parametrize("kind", ["lost", "cut"])
async def test_unanswered_creation_found_by_url(
    store: Store, sender: SandboxServer, kind: str
) -> None:
    sender.add_fault(CREATE, kind=kind)
    warnings: list[str] = []
    how = {"warn": warnings.append}
    batch_id = await create(store, a_source(sender.api_url), 3, how=how)
    (batch,), (warning,) = sender.state()["batches"], warnings
    assert (batch["batch_id"], batch["counts"]["total"]) == (batch_id, 3)
    lost = f"The sender's answer with the signing secret of {batch_id} was lost: its webhooks"
    assert warning.startswith(lost)
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (ledger(store, batch_id).state, len(stored(store))) == ("complete", 3)


async def test_creation_not_arrived_can_be_resumed(store: Store, sender: SandboxServer) -> None:
    sender.add_fault(CREATE, kind="html")
    sentence = await refusal(store, a_source(sender.api_url))
    assert "The answer to the create call was lost" in sentence
    assert sentence.endswith(f"Go on with: {resume_command(store)}.")
    assert left_behind(store) == (["pending"], ["pending"])


async def test_batch_without_webhooks_completes_by_check(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    batch_id = await create(store, a_source(sender.api_url), 120)
    sender.change(hold=False)
    assert stored(store) == []
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (ledger(store, batch_id).state, ledger(store, batch_id).stored) == ("complete", 120)


async def test_tasks_added_after_end_are_fetched(store: Store, sender: SandboxServer) -> None:
    sender.change(add_after_end=True)
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 2)
    make_due(store)
    await work_off(store, source)
    assert ledger(store, batch_id).state == "complete"
    async with clients_for() as wire:
        added: Callable[[int], None] = lambda _: None  # noqa: E731
        await BatchSubmissions(store, Calls(source, wire), PUBLIC).add(
            batch_id, tasks(3), added=added
        )
    assert (ledger(store, batch_id).state, ledger(store, batch_id).expected) == ("open", 5)
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).stored) == ("complete", 5)


async def test_cancel_keeps_the_sender_s_answer(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 2)
    async with clients_for() as wire:
        await BatchSubmissions(store, Calls(source, wire), PUBLIC).cancel(batch_id)
        with pytest.raises(NotDone, match=r"was not cancelled: .* Cannot cancel a batch"):
            await BatchSubmissions(store, Calls(source, wire), PUBLIC).cancel(batch_id)
    assert ledger(store, batch_id).sender_status == "cancelled"
    make_due(store)
    await work_off(store, source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).failed) == ("complete", 2)


async def test_ended_before_cancel_is_fetched_now(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_ids = [await create(store, source, 2) for _ in range(2)]
    async with clients_for() as wire:
        batches = BatchSubmissions(store, Calls(source, wire), PUBLIC)
        await batches.cancel(batch_ids[0])
        sender.change(hold=False)
        await batches.status(batch_ids[1])
    await work_off(store, source)  # nobody let two minutes pass
    assert [ledger(store, each).state for each in batch_ids] == ["complete", "complete"]


async def test_status_of_complete_batch_makes_no_check(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 1)
    make_due(store)
    await work_off(store, source)
    async with clients_for() as wire:
        await BatchSubmissions(store, Calls(source, wire), PUBLIC).status(batch_id)
    assert ledger(store, batch_id).state == "complete"
    assert working.jobs(store, status="pending") == []


@pytest.mark.parametrize("kind", ["lost", "html"])
async def test_cancel_stands_without_following_status(
    store: Store, sender: SandboxServer, kind: str
) -> None:
    sender.change(hold=True)
    source = a_source(sender.api_url)
    batch_id = await create(store, source, 2)
    sender.add_fault("GET /deepresearch/batches/*", kind=kind)
    async with clients_for() as wire:
        await BatchSubmissions(store, Calls(source, wire), PUBLIC).cancel(batch_id)
    await work_off(store, source)
    assert ledger(store, batch_id).state == "complete"


async def test_failed_status_call_names_the_batch(store: Store, sender: SandboxServer) -> None:
    batch_id = await create(store, a_source(sender.api_url))
    sender.add_fault("GET /deepresearch/batches/*", status=500)
    async with clients_for() as wire:
        batches = BatchSubmissions(store, Calls(a_source(sender.api_url), wire), PUBLIC)
        with pytest.raises(NotDone, match=f"The sender did not tell of {batch_id}: .* 500"):
            await batches.status(batch_id)
