"""One attempt against the sender's API, page by page, on a real store."""

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest

from receiver.errors import (
    NotReady,
    Refused,
    Unavailable,
)
from receiver.sandbox import SandboxServer
from receiver.work.fetch.listing_progress import MAX_RESTARTS
from storage import Store
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.working import (
    LISTS,
    STATUSES,
    a_batch,
    a_source,
    announce,
    answering,
    ask,
    batch_of_one,
    claim,
    fetch,
    job,
    ledger,
    more_tasks,
    run_named,
    stored,
)

running_sender, sender = working.running_sender, working.sender


@pytest.mark.parametrize(("size", "pages"), [(1, 8), (7, 2), (100, 1)])
async def test_batch_is_fetched_page_by_page(
    store: Store, sender: SandboxServer, size: int, pages: int
) -> None:
    sender.change(max_page_size=size)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    assert await fetch(store, a_source(sender.api_url)) == "8 of 8 results stored"
    assert [result["run_id"] for result in stored(store)] == tasks
    assert ledger(store, batch_id).state == "complete"
    assert sender.state()["calls"][LISTS] == pages
    assert STATUSES not in sender.state()["calls"]


async def test_killed_attempt_resumes_after_pages(store: Store, sender: SandboxServer) -> None:
    sender.change(max_page_size=3)
    sender.add_fault("GET /deepresearch/batches/*/tasks", kind="hang", after=2)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    source = a_source(sender.api_url)
    trying = asyncio.create_task(fetch(store, source))
    await until(lambda: len(stored(store)) == 6 and sender.state()["calls"][LISTS] == 3)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    assert json.loads(job(store)["progress"])["listing"]["cursor"]
    working.taken_over(store)
    await fetch(store, source)
    assert [result["run_id"] for result in stored(store)] == tasks
    assert ledger(store, batch_id).state == "complete"
    assert sender.state()["calls"][LISTS] == 4  # two pages, the one that hung, and it again


async def test_refused_cursor_restarts_at_page_one(store: Store, sender: SandboxServer) -> None:
    sender.change(max_page_size=3)
    sender.add_fault("GET /deepresearch/batches/*/tasks?*last_key=*", status=400, after=1)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert {result["run_id"] for result in stored(store)} == set(tasks)
    assert ledger(store, batch_id).state == "complete"
    assert sender.state()["calls"][LISTS] == 3 + 3


async def test_always_refused_cursors_end_the_attempt(store: Store, sender: SandboxServer) -> None:
    sender.change(max_page_size=3)
    refusals = MAX_RESTARTS + 1
    sender.add_fault("GET /deepresearch/batches/*/tasks?*last_key=*", status=400, times=refusals)
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    lease = claim(store)
    with pytest.raises(Unavailable, match="refused again and again"):
        await fetch(store, a_source(sender.api_url), lease=lease)
    sender.add_fault("GET /deepresearch/batches/*/tasks?*last_key=*", status=404)
    await fetch(store, a_source(sender.api_url), lease=lease)
    assert ledger(store, batch_id).state == "complete"


@pytest.mark.parametrize("order", ["newest", "id"])
async def test_page_order_does_not_matter(store: Store, sender: SandboxServer, order: str) -> None:
    sender.change(max_page_size=3, page_order=order)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert {result["run_id"] for result in stored(store)} == set(tasks)


async def test_empty_last_page_is_harmless(store: Store, sender: SandboxServer) -> None:
    sender.change(max_page_size=4, has_more="late")
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    assert await fetch(store, a_source(sender.api_url)) == "8 of 8 results stored"


async def test_short_list_is_not_complete(store: Store, sender: SandboxServer) -> None:
    sender.change(max_page_size=3, has_more="early")
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    with pytest.raises(NotReady, match="3 of 8 results stored"):
        await fetch(store, a_source(sender.api_url))
    assert ledger(store, batch_id).state == "open"


def listing(*pages: tuple[str, str | None], counts: Any = None) -> Any:
    """A batch that has ended: each page has one task and its last key, and promises no more."""
    shown = {None if number == 0 else pages[number - 1][1]: number for number in range(len(pages))}
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        assert len(requests) < 10, "a key that repeats is followed for ever"
        if not request.url.path.endswith("/tasks"):
            batch = {"batch_id": "batch_1", "status": "completed", "counts": counts}
            return httpx.Response(200, json=batch)
        run_id, key = pages[shown[request.url.params.get("last_key")]]
        task = {"deepresearch_id": run_id, "status": "completed", "output": "x"}
        pagination = {"has_more": False, "last_key": key}
        answer = {"batch_id": "batch_1", "tasks": [task], "pagination": pagination}
        return httpx.Response(200, json=answer)

    return answering(handler)


@pytest.mark.parametrize("last", [None, "", "k2"], ids=["absent", "empty", "repeated"])
async def test_missing_total_never_completes(store: Store, last: str | None) -> None:
    announce(store, "batch_1")
    client = listing(("t1", "k1"), ("t2", "k2"), ("t3", last))
    with pytest.raises(NotReady, match="3 of 3 results stored, batch is completed"):
        await fetch(store, a_source(), client=client)
    assert [result["run_id"] for result in stored(store)] == ["t1", "t2", "t3"]
    assert ledger(store, "batch_1").state == "open"


async def test_endless_cursors_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.work.fetch.pages.MAX_PAGES", 2)
    announce(store, "batch_1")
    client = listing(("t1", "k1"), ("t2", "k2"), ("t3", "k3"), ("t4", None))
    with pytest.raises(NotReady):
        await fetch(store, a_source(), client=client)
    assert [result["run_id"] for result in stored(store)] == ["t1", "t2", "t3"]


async def test_reached_total_ignores_last_cursor(store: Store) -> None:
    announce(store, "batch_1")
    client = listing(("t1", "k1"), ("t2", "k2"), counts={"total": "2", "completed": "2"})
    assert await fetch(store, a_source(), client=client) == "2 of 2 results stored"
    assert ledger(store, "batch_1").state == "complete"


async def test_unlisted_known_tasks_asked_individually(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 20)
    announce(store, batch_id)
    announce(store, batch_id, body=b"again")
    first, second = store.jobs.claim("valyu", limit=2)
    sender.change(outputs_in_list=False)
    sender.add_fault("GET /deepresearch/tasks/*/status", status=500, times=None)
    with pytest.raises(Unavailable):  # now all of them are known
        await fetch(store, a_source(sender.api_url), lease=first)
    assert stored(store) == []
    sender.change(max_page_size=3, has_more="early", outputs_in_list=True, faults=[])
    assert await fetch(store, a_source(sender.api_url), lease=second) == "20 of 20 results stored"


async def test_list_without_outputs_asks_each_task(store: Store, sender: SandboxServer) -> None:
    sender.change(outputs_in_list=False)
    batch_id, _ = a_batch(sender, ["a", "b [fail]", *"cdefghijkl"])
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert ledger(store, batch_id).state == "complete"
    assert all(result["output"] for result in stored(store) if result["status"] == "completed")
    assert all(result["error"] for result in stored(store) if result["status"] == "failed")
    assert sender.state()["calls"][STATUSES] == 12  # the list says of no failed one why it failed


@pytest.mark.parametrize(("batch_id", "kept"), [("batch_1", 1), ("another", 0), (None, 1)])
async def test_run_of_another_batch_is_not_stored(
    store: Store, batch_id: str | None, kept: int
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            return httpx.Response(200, json=run_named("t1", batch_id=batch_id))
        return batch_of_one(request, {"total": 1, "completed": 1}, output=None)

    announce(store, "batch_1")
    with contextlib.nullcontext() if kept else pytest.raises(NotReady):
        await fetch(store, a_source(), client=answering(handler))
    assert len(stored(store)) == kept


@pytest.mark.parametrize(("status", "single_calls"), [("processing", 0), ("completed", 1)])
async def test_only_ended_batch_is_fetched_run_by_run(
    store: Store, status: str, single_calls: int
) -> None:
    paths: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if request.url.path.endswith("/status"):
            return httpx.Response(200, json=run_named("t1"))
        if not request.url.path.endswith("/tasks"):
            counts = {"total": 2, "completed": 1, "failed": 0, "cancelled": 0}
            return httpx.Response(
                200, json={"batch_id": "batch_1", "status": status, "counts": counts}
            )
        if "last_key" in request.url.params:
            return httpx.Response(400, json={"error": "Invalid last_key"})
        more = {"last_key": "2", "has_more": True}
        return httpx.Response(
            200, json={"tasks": [run_named("t1", output=None)], "pagination": more}
        )

    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="cursor is refused"):
        await fetch(store, a_source(), client=answering(handler))
    assert sum(path.endswith("/status") for path in paths) == single_calls


async def test_unaskable_task_keeps_others(store: Store, sender: SandboxServer) -> None:
    sender.change(outputs_in_list=False)
    batch_id, tasks = a_batch(sender, 12)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[0]}/status", status=500)
    announce(store, batch_id)
    with pytest.raises(Unavailable):
        await fetch(store, a_source(sender.api_url))
    assert {result["run_id"] for result in stored(store)} == set(tasks[1:])


@pytest.mark.parametrize("refusal", [400, 403, 404])
@pytest.mark.parametrize("place", [0, 1])
async def test_outstanding_tasks_decide_the_outcome(
    store: Store, sender: SandboxServer, refusal: int, place: int
) -> None:
    sender.change(outputs_in_list=False)
    batch_id, tasks = a_batch(sender, 2)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[place]}/status", status=refusal)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[1 - place]}/status", status=500)
    announce(store, batch_id)
    with pytest.raises(Unavailable):
        await fetch(store, a_source(sender.api_url))


async def test_lone_refused_task_ends_fetch(store: Store, sender: SandboxServer) -> None:
    sender.change(outputs_in_list=False)
    batch_id, tasks = a_batch(sender, 3)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[0]}/status", status=403)
    announce(store, batch_id)
    with pytest.raises(Refused, match="this alone is refused"):
        await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == tasks[1:]


async def test_counts_decide_completeness(store: Store) -> None:
    counts = {"total": 3, "completed": 3, "failed": 0, "cancelled": 0}
    announce(store, "batch_1")
    with pytest.raises(NotReady, match="1 of 3 results stored"):
        await fetch(store, a_source(), client=answering(lambda r: batch_of_one(r, counts)))


async def test_running_batch_is_not_listed(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    batch_id, _ = a_batch(sender, 2)
    announce(store, batch_id)
    with pytest.raises(NotReady, match="0 of 2 results stored, batch is processing"):
        await fetch(store, a_source(sender.api_url))
    assert LISTS not in sender.state()["calls"]


async def test_ended_tasks_stored_while_batch_runs(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, ["a", "b [stuck]"])
    announce(store, batch_id)
    with pytest.raises(NotReady, match="1 of 2"):
        await fetch(store, a_source(sender.api_url))
    assert len(stored(store)) == 1


async def test_tasks_after_cancel_keep_batch_open(store: Store, sender: SandboxServer) -> None:
    sender.change(cancel_keeps_running=True)
    batch_id, (_, stuck) = a_batch(sender, ["a", "b [stuck]"])
    ask(sender, "POST", f"/deepresearch/batches/{batch_id}/cancel", {})
    announce(store, batch_id)
    lease = claim(store)
    with pytest.raises(NotReady, match="1 of 2 results stored, batch is cancelled"):
        await fetch(store, a_source(sender.api_url), lease=lease)
    ask(sender, "POST", f"/deepresearch/tasks/{stuck}/cancel", {})
    assert await fetch(store, a_source(sender.api_url), lease=lease) == "2 of 2 results stored"
    assert (ledger(store, batch_id).state, ledger(store, batch_id).failed) == ("complete", 1)


async def test_growth_reopens_until_second_end(store: Store, sender: SandboxServer) -> None:
    sender.change(add_after_end=True)
    batch_id, _ = a_batch(sender, 2)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    (later,) = more_tasks(sender, batch_id, ["later [stuck]"])
    announce(store, batch_id, body=b"the second end")
    lease = claim(store)
    with pytest.raises(NotReady, match="2 of 3"):
        await fetch(store, a_source(sender.api_url), lease=lease)
    assert ledger(store, batch_id).state == "open"
    ask(sender, "POST", f"/deepresearch/tasks/{later}/cancel", {})
    await fetch(store, a_source(sender.api_url), lease=lease)
    assert ledger(store, batch_id).state == "complete"


async def test_second_completion_stores_results_once(store: Store, sender: SandboxServer) -> None:
    batch_id, tasks = a_batch(sender, 3)
    for body in (b"first", b"second"):
        announce(store, batch_id, body=body)
        await fetch(store, a_source(sender.api_url))
        working.taken_over(store)
        working.sql(store, "UPDATE jobs SET status = 'done'")
    assert [result["run_id"] for result in stored(store)] == tasks
    assert {result["version"] for result in stored(store)} == {1}
