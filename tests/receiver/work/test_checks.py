"""Checks: results that no webhook announced are found all the same, by few calls."""

import httpx

from receiver.sandbox import SandboxServer
from storage import Store
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.parallel_senders import GROUP, GroupSender, parallel
from tests.receiver.working import (
    NOT_FOUND,
    a_batch,
    a_run,
    a_source,
    announce,
    answering,
    ask,
    attempts,
    in_seconds,
    job,
    ledger,
    make_due,
    make_old,
    stored,
    tried_in_vain,
    work_off,
)

running_sender, sender = working.running_sender, working.sender

MONTH = 31 * 24 * 60.0


async def test_batch_without_webhook_is_found(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, ["a", "b [stuck]"])
    store.endpoints.add("valyu", "batch", resource=batch_id)
    assert 100 < in_seconds(job(store)) <= 120
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert [result["found_by"] for result in stored(store)] == ["check"]
    again = job(store)
    assert (again["status"], again["failures"], len(stored(store))) == ("pending", 0, 1)
    assert 70 < in_seconds(again) <= 120
    (stuck_task,) = (run["run_id"] for run in store.batches.story(batch_id).missing_runs)
    ask(sender, "POST", f"/deepresearch/tasks/{stuck_task}/cancel", {})
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], ledger(store, batch_id).state) == ("done", "complete")


async def test_own_batch_check_needs_no_list(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 3)  # it names no URL of ours
    endpoint_id = store.endpoints.add("valyu", "batch")
    store.batches.register("valyu", batch_id, endpoint_id=endpoint_id, secret=None)
    make_due(store)
    tried_in_vain(store, MONTH)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    (dead,) = store.jobs.list_dead()
    assert dead["subject"] == batch_id
    store.jobs.replay(dead["id"])
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], ledger(store, batch_id).state) == ("done", "complete")


async def test_check_learns_task_from_secret(
    store: Store,
) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
    store.endpoints.set_secret(endpoint_id, "s" * 43, resource="t1")
    make_due(store)
    tried_in_vain(store, MONTH)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    store.jobs.replay(store.jobs.list_dead()[0]["id"])
    await work_off(store, a_source(), client=answering(a_run))
    assert [result["run_id"] for result in stored(store)] == ["t1"]
    assert job(store)["status"] == "done"


async def test_fruitless_check_waits_longer(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="batch_1")
    for least in (110, 230, 470):
        make_due(store)
        await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
        assert least < in_seconds(job(store)) <= least + 10
    assert job(store)["failures"] == 0


async def test_news_resets_the_waits(store: Store) -> None:
    sender = GroupSender({"a": "running", "b": "running"})
    store.batches.check("valyu", GROUP)
    for _ in range(3):
        make_due(store)
        await work_off(store, parallel(), client=answering(sender))
    assert in_seconds(job(store)) > 470
    sender.runs["a"] = "completed"
    make_due(store)
    await work_off(store, parallel(), client=answering(sender))
    assert (len(stored(store)), job(store)["waits"]) == (1, 1)
    assert 110 < in_seconds(job(store)) <= 120


async def test_unanswered_check_retries_soon(
    store: Store,
) -> None:
    store.endpoints.add("valyu", "batch", resource="batch_1")
    make_due(store)
    in_trouble = answering(lambda _: httpx.Response(500))
    async with working.working(store, a_source(), client=in_trouble):
        await until(lambda: attempts(store))
    assert in_seconds(job(store)) <= 2 * 2 ** (len(attempts(store)) - 1)
    tried_in_vain(store, 8 * 24 * 60)  # when a fetch would have been given up
    make_due(store)
    await work_off(store, a_source(), client=answering(lambda _: httpx.Response(500)))
    assert job(store)["status"] == "pending"
    assert 110 < in_seconds(job(store)) <= 6 * 60 * 60


async def test_month_begins_with_first_vain_attempt(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="batch_1")
    make_due(store)
    make_old(store, MONTH)  # its source was paused all the time
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    assert job(store)["status"] == "pending"


async def test_check_gives_up_after_a_month(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="batch_1")
    make_due(store)
    tried_in_vain(store, MONTH)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    assert "given up after 30 days" in store.jobs.list_dead()[0]["reason"]


async def test_completing_fetch_ends_the_check(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 1)
    endpoint_id = store.endpoints.add("valyu", "batch", resource=batch_id)
    announce(store, batch_id, endpoint_id=endpoint_id)
    await work_off(store, a_source(sender.api_url))
    assert job(store, kind="check")["status"] == "done"
