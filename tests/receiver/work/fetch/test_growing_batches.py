"""Batches that grow, end again, or were read at a bad moment: never complete too early, never
forgotten. Each of these went wrong once."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from receiver.errors import NotDone
from receiver.providers.parallel.provider import Parallel
from receiver.sender_api.calls import Calls
from receiver.submissions.batches import BatchSubmissions
from storage import (
    AttemptOutcome,
    FetchedBatch,
    FetchedRun,
    Lease,
    Ledger,
    Store,
    SubmittedRun,
    now,
)
from tests.receiver.conftest import until
from tests.receiver.parallel_senders import GROUP, GroupSender, parallel
from tests.receiver.working import (
    a_source,
    announce,
    answering,
    claim,
    job,
    jobs,
    ledger,
    sql,
    stored,
    tried_in_vain,
    work_off,
    working,
)

DONE = "done"


def counted(total: int, ended: int) -> FetchedBatch:
    is_terminal = total == ended
    status = "completed" if is_terminal else "processing"
    return FetchedBatch("B", status, is_terminal=is_terminal, total=total, ended=ended)


def a_status(total: int, ended: int) -> httpx.Response:
    counts = {"total": total, "completed": ended, "failed": 0, "cancelled": 0}
    status = counted(total, ended).sender_status
    return httpx.Response(200, json={"batch_id": "B", "status": status, "counts": counts})


def page(*names: str) -> httpx.Response:
    tasks = [{"deepresearch_id": name, "status": "completed", "output": "x"} for name in names]
    return httpx.Response(200, json={"batch_id": "B", "tasks": tasks, "pagination": {}})


def result(name: str) -> FetchedRun:
    return FetchedRun(name, "completed", "completed", {}, batch_id="B", output="x")


def an_end(store: Store, *names: str) -> tuple[Lease, FetchedBatch]:
    """A fetch that has read that the batch has ended, and stored these results."""
    announce(store, "B", endpoint_id=store.endpoints.add("valyu", "batch", resource="B"))
    lease, read = claim(store), counted(len(names), len(names))
    store.batches.save(lease, read)
    store.results.store(lease, [result(name) for name in names], fetched_at=now(), progress={})
    return lease, read


def complete(store: Store, lease: Lease, read: FetchedBatch) -> Ledger:
    settled = store.batches.settle(lease, read)
    store.jobs.finish(lease, AttemptOutcome(now(), 1.0, DONE))
    return settled


def watching(store: Store) -> list[str]:
    """The kinds of the jobs that will look again."""
    return [each["kind"] for each in jobs(store) if each["status"] == "pending"]


def test_end_before_growth_completes_nothing(store: Store) -> None:
    lease, read = an_end(store, "r1", "r2")
    store.batches.note("valyu", counted(4, 2))  # somebody looked, and there were two more
    settled = complete(store, lease, read)
    assert (settled.state, settled.stored, settled.expected) == ("open", 2, 4)
    assert watching(store) == ["check"]


def test_tasks_without_ids_are_outstanding(store: Store) -> None:
    lease, read = an_end(store, "r1", "r2")
    mine = [SubmittedRun(name, None, None) for name in ("r1", "r2")]
    store.batches.add_runs("valyu", "B", mine)
    store.batches.add_runs("valyu", "B", [], submitted=4)
    settled = complete(store, lease, read)
    assert (settled.state, settled.stored, settled.expected) == ("open", 2, 4)
    assert watching(store) == ["check"]


async def test_look_survives_a_slow_listing(store: Store) -> None:
    announce(store, "B", endpoint_id=store.endpoints.add("valyu", "batch", resource="B"))
    listing, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return a_status(4, 2) if listing.is_set() else a_status(2, 2)
        listing.set()
        await go_on.wait()
        return page("r1", "r2")

    source = a_source()
    async with working(store, source, client=answering(handler)), answering(handler) as wire:
        await listing.wait()
        await BatchSubmissions(store, Calls(source, wire), None).look("B")
        go_on.set()
        await until(lambda: job(store, kind="fetch")["status"] != "running")
    assert (ledger(store, "B").state, len(stored(store))) == ("open", 2)
    assert "check" in watching(store)


async def test_progress_news_reopens_and_watches(store: Store) -> None:
    assert complete(store, *an_end(store, "r1")).state == "complete"
    assert watching(store) == []
    announce(store, "B", body=b"2", awaits_end=False)
    grown = answering(lambda r: page("r1") if r.url.path.endswith("/tasks") else a_status(2, 1))
    await work_off(store, a_source(), client=grown)
    assert ledger(store, "B").state == "open"
    assert watching(store) == ["check"]


def test_dying_fetch_reopens_and_watches(store: Store) -> None:
    complete(store, *an_end(store, "r1"))
    announce(store, "B", body=b"2")
    lease = claim(store)
    store.batches.save(lease, counted(2, 1))
    store.jobs.bury(lease, AttemptOutcome(now(), 1.0, "dead", "x"))
    assert ledger(store, "B").state == "open"
    assert watching(store) == ["check"]


def test_grown_batch_is_watched_again(store: Store) -> None:
    complete(store, *an_end(store, "r1"))
    assert store.batches.note("valyu", counted(2, 1)).state == "open"
    assert watching(store) == ["check"]


def test_dead_check_makes_no_new_check(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="B")
    sql(store, "UPDATE jobs SET next_attempt_at = created_at")
    store.jobs.bury(claim(store), AttemptOutcome(now(), 1.0, "dead", "given up after 30 days"))
    assert watching(store) == []


# --- a sender that says no ----------------------------------------------------------------------


async def test_trouble_makes_403_inconclusive(
    store: Store,
) -> None:
    announce(store, "bad", kind="task")

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/batches"):
            return httpx.Response(502, text="bad gateway")
        return httpx.Response(403, json={"error": "not yours"})

    async with working(store, a_source(), client=answering(handler)):
        await until(lambda: sql(store, "SELECT * FROM attempts"))
    assert store.sources.list_paused() == []
    assert (job(store)["status"], job(store)["failures"] > 0) == ("pending", True)


async def test_probe_without_call_resumes_nothing(store: Store) -> None:
    store.endpoints.add("valyu", "task")  # nobody has said yet which one
    for number in range(8):
        announce(store, f"t{number}", kind="task")
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return httpx.Response(401, json={"error": "Invalid API key"})

    await work_off(store, a_source(concurrency=1), client=answering(handler))
    calls.clear()
    long_ago = "2020-01-01 00:00:00.000000"
    sql(store, "UPDATE jobs SET next_attempt_at = ? WHERE kind = 'check'", long_ago)
    sql(store, "UPDATE source_state SET probe_at = ?", long_ago)
    await work_off(store, a_source(concurrency=1), client=answering(handler))
    assert len(store.sources.list_paused()) == 1
    assert calls == []


async def test_fullest_body_is_embedded(store: Store) -> None:
    thin = {"deepresearch_id": "t1", "status": "completed"}
    for body in ({**thin, "output": "the result"}, thin):
        announce(store, "t1", kind="task", body=json.dumps(body).encode())
    sql(store, "UPDATE deliveries SET event_id = 1")
    sql(store, "UPDATE jobs SET event_id = 1")
    tried_in_vain(store, 60)
    gone = httpx.Response(404, json={"error": "Task not found"})
    await work_off(store, a_source(), client=answering(lambda _: gone))
    assert [each["output"] for each in stored(store)] == ['"the result"']


@pytest.mark.parametrize("padding", [10, 300_000])
async def test_deeply_nested_run_spares_others(store: Store, padding: int) -> None:
    announce(store, "B")
    deep = "[" * 900 + "]" * 900
    tasks: list[dict[str, Any]] = [
        {"deepresearch_id": name, "status": "completed", "output": "fine"} for name in "ab"
    ]
    text = json.dumps({"batch_id": "B", "tasks": tasks, "pad": "x" * padding})
    body = text.replace('"fine"', deep, 1)
    lists = httpx.Response(200, content=body.encode())
    handler = answering(lambda r: lists if r.url.path.endswith("/tasks") else a_status(2, 2))
    await work_off(store, a_source(), client=handler)
    assert "b" in {each["run_id"] for each in stored(store)}


async def test_refused_addition_quotes_the_sender(
    store: Store,
) -> None:
    source, sender = parallel(), GroupSender({"r1": "completed"})
    refusal = {"detail": [{"loc": ["body"], "msg": "input 3: too long"}]}
    sender.first = lambda r: httpx.Response(422, json=refusal) if r.method == "POST" else None
    store.batches.register("valyu", GROUP, endpoint_id=None, defaults={"processor": "core"})
    async with answering(sender) as wire:
        batches = BatchSubmissions(store, Calls(source, wire), "https://receiver.test", warn=print)
        with pytest.raises(NotDone) as raised:
            await batches.add(GROUP, [Parallel().new_task({"q": "1"})], added=print)
    assert str(raised.value).startswith(f"0 of 1 tasks were added to {GROUP}, then: ")
    assert str(raised.value).endswith("too long. Once that is mended, run the command again.")
    assert store.submissions.list_all() == []
    assert sender.calls[1:] == [f"/groups/{GROUP}/runs"]  # its end is not asked for: it has none
