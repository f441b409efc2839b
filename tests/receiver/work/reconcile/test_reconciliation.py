"""Reconciling: what never arrived is found, adopted and fetched; what is left is named."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from receiver.sandbox import SandboxServer
from receiver.sender_api.client_pool import clients_for
from receiver.sources import Source
from receiver.work.reconcile import Reconciliation, Report, patience
from storage import Store
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.parallel_senders import BATCH as V0_BATCH
from tests.receiver.parallel_senders import GROUP, TASK, BatchSender, GroupSender, parallel_v0
from tests.receiver.parallel_senders import parallel as parallel_source
from tests.receiver.working import (
    NOWHERE,
    a_batch,
    a_source,
    answering,
    ask,
    calls_of,
    claim,
    job,
    jobs,
    known,
    ledger,
    more_tasks,
    sql,
    stored,
)

running_sender, sender = working.running_sender, working.sender
PUBLIC = "http://127.0.0.1:9"
WEEK = timedelta(days=7)


async def reconcile(store: Store, source: Source, *, client: Any = None) -> Report:
    async with client or clients_for() as wire:
        reconciliation = Reconciliation(store, calls_of(source, wire), PUBLIC)
        return await reconciliation.run(since=store.now() - WEEK)


async def adopt(
    store: Store, source: Source, batch_id: str, *, client: Any = None, task_id: str | None = None
) -> Report:
    async with client or clients_for() as wire:
        reconciliation = Reconciliation(store, calls_of(source, wire), PUBLIC)
        return await reconciliation.adopt(batch_id, task_id=task_id)


def figures(report: Report) -> tuple[int, int, int]:
    return report.looked, report.found, report.fetched


async def test_open_batch_is_fetched_now_and_once(store: Store, sender: SandboxServer) -> None:
    batch_id, runs = a_batch(sender, 3)
    known(store, batch_id)
    source = a_source(sender.api_url)
    first, again = await reconcile(store, source), await reconcile(store, source)
    assert (figures(first), first.is_complete) == ((1, 3, 3), True)
    assert (figures(again), again.is_complete) == ((0, 0, 0), True)
    assert ({row["run_id"] for row in stored(store)}, len(stored(store))) == (set(runs), 3)
    assert {row["found_by"] for row in stored(store)} == {"reconcile"}
    assert ledger(store, batch_id).state == "complete"


async def test_batch_at_our_endpoint_is_adopted(store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "batch")
    batch_id, _ = a_batch(sender, 2, url=f"{NOWHERE}/{endpoint_id}")
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.adopted, report.fetched) == ([batch_id], 2)
    view = store.endpoints.show(endpoint_id)
    assert view is not None
    assert view.resource == batch_id


async def test_second_batch_of_an_endpoint_is_adopted(store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "batch", resource="another")
    batch_id, _ = a_batch(sender, 1, url=f"{NOWHERE}/{endpoint_id}")
    report = await reconcile(store, a_source(sender.api_url))
    assert report.adopted == [batch_id]
    assert ledger(store, batch_id).state == "complete"


@pytest.mark.parametrize(
    "url", [None, "https://else.where/webhooks/valyu/x", f"{NOWHERE}/unknown", f"{NOWHERE}/a/b"]
)
async def test_batch_of_others_is_left_alone(
    store: Store, sender: SandboxServer, url: str | None
) -> None:
    a_batch(sender, 1, url=url)
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.adopted, store.batches.list_newest()) == ([], [])


async def test_complete_batch_that_grew_is_fetched(store: Store, sender: SandboxServer) -> None:
    sender.change(add_after_end=True)
    batch_id, _ = a_batch(sender, 1)
    known(store, batch_id)
    await reconcile(store, a_source(sender.api_url))
    more_tasks(sender, batch_id, 2)
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.found, report.fetched, ledger(store, batch_id).stored) == (2, 2, 3)


async def test_result_that_is_no_longer_current_is_fetched_again(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, runs = a_batch(sender, 2)
    known(store, batch_id)
    await reconcile(store, a_source(sender.api_url))
    sql(
        store,
        "UPDATE results SET is_current = false"
        " WHERE run_pk = (SELECT id FROM runs WHERE run_id = ?)",
        runs[0],
    )
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.is_complete, report.fetched) == (True, 1)
    assert [row["version"] for row in stored(store)] == [1, 2]
    assert ledger(store, batch_id).state == "complete"


async def test_complete_group_that_grew_is_fetched(store: Store) -> None:
    group = GroupSender({"r1": "completed"})
    store.batches.check("valyu", GROUP)
    await reconcile(store, parallel_source(), client=answering(group))
    group.runs["r2"] = "completed"
    report = await reconcile(store, parallel_source(), client=answering(group))
    assert (report.fetched, ledger(store, GROUP).stored) == (1, 2)
    assert "no call that lists batches" in report.notes[0]


async def test_what_goes_on_is_not_incomplete(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    batch_id, _ = a_batch(sender, 1)
    known(store, batch_id)
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.going_on, report.is_complete) == (1, True)
    assert (job(store)["status"], job(store)["hurried_by"]) == ("pending", None)


async def test_ended_runs_of_an_open_batch_are_fetched(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, ["one", "two", "three [stuck]"])
    known(store, batch_id)
    source = a_source(sender.api_url)
    first = await reconcile(store, source)
    more_tasks(sender, batch_id, 1)
    again = await reconcile(store, source)
    assert [(each.fetched, each.going_on) for each in (first, again)] == [(2, 1), (1, 1)]
    assert again.is_complete


async def test_awaited_run_is_fetched_although_given_up(
    store: Store, sender: SandboxServer
) -> None:
    task = ask(sender, "POST", "/deepresearch/tasks", {"query": "q"})["deepresearch_id"]
    store.endpoints.add("valyu", "task", resource=task)
    sql(store, "UPDATE jobs SET status = 'dead', reason = 'given up after 30 days'")
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.fetched, [row["run_id"] for row in stored(store)]) == (1, [task])
    assert [each["status"] for each in jobs(store)] == ["dead", "done"]


async def test_unbound_endpoint_waits(store: Store, sender: SandboxServer) -> None:
    store.endpoints.add("valyu", "batch")
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.unbound, report.is_complete) == (1, True)


async def test_single_run_of_others_is_named(store: Store, sender: SandboxServer) -> None:
    task = ask(sender, "POST", "/deepresearch/tasks", {"query": "q"})["deepresearch_id"]
    report = await reconcile(store, a_source(sender.api_url))
    assert report.notes == [
        f"Of the single runs that the sender lists (1), 1 is not known here, such as {task}; to "
        "bring one in: endpoint add valyu --kind task --resource ID"
    ]
    assert (report.is_complete, stored(store)) == (True, [])


async def test_dead_letters_are_mentioned(store: Store, sender: SandboxServer) -> None:
    known(store, a_batch(sender, 1)[0])
    sql(store, "UPDATE jobs SET status = 'dead', reason = 'refused'")
    report = await reconcile(store, a_source(sender.api_url))
    assert report.notes[0].startswith("1 dead letter may keep results away: ")


# --- what is left -------------------------------------------------------------------------------

BROKEN = [
    httpx.Response(429, json={"error": "slow down", "retry_after": 60}),
    httpx.Response(502, text="<html>"),
    httpx.Response(200, text="<html>proxy</html>"),
    httpx.Response(200, json={"success": True}),
]


@pytest.mark.parametrize("answer", BROKEN, ids=["429", "502", "html", "no list"])
async def test_broken_list_is_incomplete(store: Store, answer: httpx.Response) -> None:
    report = await reconcile(store, a_source(), client=answering(lambda _: answer))
    assert report.incomplete[0].what == "the sender's list of batches"


async def test_rate_limited_batch_is_incomplete(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TRIES", 1)
    for batch_id in (a_batch(sender, 1)[0], a_batch(sender, 1)[0]):
        known(store, batch_id)
    source = a_source(sender.api_url, concurrency=1)
    sender.add_fault(match="GET /deepresearch/batches/*", status=429, retry_after=0, times=None)
    report = await reconcile(store, source)
    assert [left.what.split()[0] for left in report.incomplete] == ["batch", "1"]
    sender.change(faults=[])
    assert (await reconcile(store, source)).is_complete
    assert len(stored(store)) == 2


async def test_listing_with_a_gap_is_incomplete(store: Store) -> None:
    newest = [
        {"batch_id": f"b{n}", "status": "open", "created_at": store.now().isoformat()}
        for n in range(100)
    ]
    client = answering(lambda _: httpx.Response(200, json=newest))
    report = await reconcile(store, a_source(), client=client)
    (left,) = report.incomplete
    assert left.why.startswith("the sender lists only its newest 100 batches, the oldest of ")


async def test_longer_listing_is_asked_for(store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "batch")
    first = ask(
        sender, "POST", "/deepresearch/batches", {"webhook_url": f"{NOWHERE}/{endpoint_id}"}
    )
    for _ in range(120):
        ask(sender, "POST", "/deepresearch/batches", {})
    report = await reconcile(store, a_source(sender.api_url))
    assert (report.adopted, report.is_complete) == ([first["batch_id"]], True)


async def test_refused_account_ends_the_look(store: Store, sender: SandboxServer) -> None:
    for batch_id in ("b1", "b2", "b3"):
        known(store, batch_id)
    client = answering(lambda _: httpx.Response(401, json={"error": "Invalid API key"}))
    report = await reconcile(store, a_source(concurrency=1), client=client)
    whats = [left.what for left in report.incomplete]
    assert whats == ["the sender's list of batches", "batch b1", "2 more checks"]


async def test_missing_results_of_an_ended_batch_are_named(store: Store) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return working.batch_of_one(
            request, {"total": 2, "completed": 2, "failed": 0, "cancelled": 0}
        )

    known(store, "batch_1")
    report = await reconcile(store, a_source(), client=answering(answer))
    assert "batch batch_1" in [left.what for left in report.incomplete]


# --- beside others ------------------------------------------------------------------------------


async def test_check_that_others_work_on_is_waited_for(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 1)
    store.batches.check("valyu", batch_id)
    lease = claim(store)
    async with clients_for() as wire:
        reconciliation = Reconciliation(store, calls_of(a_source(sender.api_url), wire), PUBLIC)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(reconciliation.run(since=store.now() - WEEK))
            await until(lambda: sender.state()["calls"] and not task.done())
            store.jobs.give_back([lease])
    assert (reconciliation.report.fetched, len(stored(store))) == (1, 1)


async def test_interrupted_look_gives_its_leases_back(store: Store) -> None:
    known(store, "b1")

    async def hang(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("b1"):
            await asyncio.sleep(3600)
        return httpx.Response(200, json=[])

    look = asyncio.create_task(reconcile(store, a_source(), client=answering(hang)))
    await until(lambda: jobs(store)[0]["status"] == "running")
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)
    assert (job(store)["status"], job(store)["claims"]) == ("pending", 0)


# --- backfill -----------------------------------------------------------------------------------


async def test_any_batch_can_be_adopted(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 2)
    source = a_source(sender.api_url)
    first, again = await adopt(store, source, batch_id), await adopt(store, source, batch_id)
    assert (first.adopted, first.fetched) == ([batch_id], 2)
    assert (again.adopted, again.fetched) == ([], 0)


async def test_v0_batch_is_adopted_with_its_task(store: Store) -> None:
    client = answering(BatchSender({"r1": "complete", "r2": "failed"}))
    report = await adopt(store, parallel_v0(), V0_BATCH, client=client, task_id=TASK)
    assert (report.adopted, report.fetched) == ([V0_BATCH], 2)


async def test_lost_lease_is_claimed_again(store: Store) -> None:
    """A receiver that starts on the same file takes over all jobs that are running."""
    known(store, "batch_1")
    counts = {"total": 1, "completed": 1, "failed": 0, "cancelled": 0}
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if asked.count("/v1/deepresearch/batches/batch_1") == 1:
            await asyncio.to_thread(working.taken_over, store)
        if request.url.path.endswith("/batches"):
            return httpx.Response(200, json=[])
        return working.batch_of_one(request, counts)

    report = await reconcile(store, a_source(), client=answering(answer))
    assert (report.is_complete, report.fetched, len(stored(store))) == (True, 1, 1)
    assert job(store)["status"] == "done"
