"""One try against the sender's API, page by page, on a real store."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from receiver.errors import (
    FetchError,
    Forbidden,
    NotReady,
    RateLimited,
    Refused,
    Unavailable,
)
from receiver.fetch.listing import MAX_RESTARTS
from receiver.sandbox import SandboxServer
from storage import LeaseLost, Store
from tests.receiver import working
from tests.receiver.working import (
    LISTS,
    NOWHERE,
    STATUSES,
    a_batch,
    a_source,
    announce,
    answering,
    ask,
    claim,
    fetch,
    job,
    ledger,
    make_due,
    make_old,
    more_tasks,
    sql,
    stored,
)

running_sender, sender = working.running_sender, working.sender


@pytest.mark.parametrize(("size", "pages"), [(1, 8), (7, 2), (100, 1)])
async def test_a_batch_is_brought_in_page_by_page(
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


async def test_a_killed_try_leaves_its_pages_and_the_next_goes_on_from_there(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(max_page_size=3)
    sender.add_fault("GET /deepresearch/batches/*/tasks", kind="hang", after=2)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    source = a_source(sender.api_url)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await fetch(store, source)
    assert len(stored(store)) == 6
    assert json.loads(job(store)["progress"])["listing"]["cursor"]
    store.release_expired(all_of_them=True)
    await fetch(store, source)
    assert [result["run_id"] for result in stored(store)] == tasks
    assert ledger(store, batch_id).state == "complete"
    assert sender.state()["calls"][LISTS] == 4  # two pages, the one that hung, and it again


async def test_a_refused_cursor_means_page_one_again_and_all_the_rest(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(max_page_size=3)
    sender.add_fault("GET /deepresearch/batches/*/tasks?*last_key=*", status=400, after=1)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert {result["run_id"] for result in stored(store)} == set(tasks)
    assert ledger(store, batch_id).state == "complete"
    assert sender.state()["calls"][LISTS] == 3 + 3


async def test_cursors_that_are_always_refused_end_the_try_and_the_next_begins_anew(
    store: Store, sender: SandboxServer
) -> None:
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
async def test_the_order_of_the_pages_does_not_matter(
    store: Store, sender: SandboxServer, order: str
) -> None:
    sender.change(max_page_size=3, page_order=order)
    batch_id, tasks = a_batch(sender, 8)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert {result["run_id"] for result in stored(store)} == set(tasks)


async def test_a_promise_of_more_that_leads_to_an_empty_page_is_no_harm(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(max_page_size=4, has_more="late")
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    assert await fetch(store, a_source(sender.api_url)) == "8 of 8 results stored"


async def test_a_list_that_ends_too_early_is_not_taken_for_the_whole(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(max_page_size=3, has_more="early")
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    with pytest.raises(NotReady, match="3 of 8 results stored"):
        await fetch(store, a_source(sender.api_url))
    assert ledger(store, batch_id).state == "open"


def listing(*pages: tuple[str, str | None], counts: Any = None) -> Any:
    """A batch that has ended: each page has one task and its last key, and promises no more."""
    shown = {None if number == 0 else pages[number - 1][1]: number for number in range(len(pages))}
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        assert len(asked) < 10, "a key that repeats is followed for ever"
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
async def test_without_a_total_keys_are_followed_to_their_end_and_nothing_is_called_complete(
    store: Store, last: str | None
) -> None:
    announce(store, "batch_1")
    client = listing(("t1", "k1"), ("t2", "k2"), ("t3", last))
    with pytest.raises(NotReady, match="3 of 3 results stored, batch is completed"):
        await fetch(store, a_source(), client=client)
    assert [result["run_id"] for result in stored(store)] == ["t1", "t2", "t3"]
    assert ledger(store, "batch_1").state == "open"


async def test_keys_without_end_are_not_followed_without_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.fetch.listing.MAX_PAGES", 2)
    announce(store, "batch_1")
    client = listing(("t1", "k1"), ("t2", "k2"), ("t3", "k3"), ("t4", None))
    with pytest.raises(NotReady):
        await fetch(store, a_source(), client=client)
    assert [result["run_id"] for result in stored(store)] == ["t1", "t2", "t3"]


async def test_with_a_total_that_is_reached_a_last_key_is_not_followed(store: Store) -> None:
    announce(store, "batch_1")
    client = listing(("t1", "k1"), ("t2", "k2"), counts={"total": "2", "completed": "2"})
    assert await fetch(store, a_source(), client=client) == "2 of 2 results stored"
    assert ledger(store, "batch_1").state == "complete"


async def test_known_tasks_that_the_list_leaves_out_are_asked_for_one_by_one(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, 20)
    announce(store, batch_id)
    announce(store, batch_id, body=b"again")
    first, second = store.claim_jobs("valyu", limit=2)
    sender.change(outputs_in_list=False)
    sender.add_fault("GET /deepresearch/tasks/*/status", status=500, times=None)
    with pytest.raises(Unavailable):  # now all of them are known
        await fetch(store, a_source(sender.api_url), lease=first)
    assert stored(store) == []
    sender.change(max_page_size=3, has_more="early", outputs_in_list=True, faults=[])
    assert await fetch(store, a_source(sender.api_url), lease=second) == "20 of 20 results stored"


async def test_a_list_without_outputs_is_completed_by_asking_for_each_task(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(outputs_in_list=False)
    batch_id, _ = a_batch(sender, ["a", "b [fail]", *"cdefghijkl"])
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert ledger(store, batch_id).state == "complete"
    assert all(result["output"] for result in stored(store) if result["status"] == "completed")
    assert sender.state()["calls"][STATUSES] == 11  # the failed one had all that it has


async def test_one_task_that_cannot_be_asked_for_does_not_keep_the_others_out(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(outputs_in_list=False)
    batch_id, tasks = a_batch(sender, 12)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[0]}/status", status=500)
    announce(store, batch_id)
    with pytest.raises(Unavailable):
        await fetch(store, a_source(sender.api_url))
    assert {result["run_id"] for result in stored(store)} == set(tasks[1:])


@pytest.mark.parametrize("refusal", [400, 403, 404])
@pytest.mark.parametrize("place", [0, 1])
async def test_what_may_still_come_decides_how_a_fetch_ends_not_the_task_that_is_refused(
    store: Store, sender: SandboxServer, refusal: int, place: int
) -> None:
    sender.change(outputs_in_list=False)
    batch_id, tasks = a_batch(sender, 2)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[place]}/status", status=refusal)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[1 - place]}/status", status=500)
    announce(store, batch_id)
    with pytest.raises(Unavailable):
        await fetch(store, a_source(sender.api_url))


async def test_a_task_that_alone_is_refused_ends_the_fetch_once_the_others_are_here(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(outputs_in_list=False)
    batch_id, tasks = a_batch(sender, 3)
    sender.add_fault(f"GET /deepresearch/tasks/{tasks[0]}/status", status=403)
    announce(store, batch_id)
    with pytest.raises(Refused, match="this alone is refused"):
        await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == tasks[1:]


async def test_the_counts_decide_whether_a_batch_is_complete(store: Store) -> None:
    counts = {"total": 3, "completed": 3, "failed": 0, "cancelled": 0}
    announce(store, "batch_1")
    with pytest.raises(NotReady, match="1 of 3 results stored"):
        await fetch(store, a_source(), client=answering(lambda r: _batch_of_one(r, counts)))


def _batch_of_one(request: httpx.Request, counts: dict[str, int], **task: Any) -> httpx.Response:
    if request.url.path.endswith("/tasks"):
        shown = {"deepresearch_id": "t1", "status": "completed", "output": "x", **task}
        return httpx.Response(200, json={"batch_id": "batch_1", "tasks": [shown]})
    batch = {"batch_id": "batch_1", "status": "completed", "counts": counts}
    return httpx.Response(200, json=batch)


async def test_not_yet_is_said_of_a_batch_that_goes_on_and_nothing_is_listed(
    store: Store, sender: SandboxServer
) -> None:
    sender.change(hold=True)
    batch_id, _ = a_batch(sender, 2)
    announce(store, batch_id)
    with pytest.raises(NotReady, match="0 of 2 results stored, batch is processing"):
        await fetch(store, a_source(sender.api_url))
    assert LISTS not in sender.state()["calls"]


async def test_what_has_ended_is_stored_while_the_batch_goes_on(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, ["a", "b [stuck]"])
    announce(store, batch_id)
    with pytest.raises(NotReady, match="1 of 2"):
        await fetch(store, a_source(sender.api_url))
    assert len(stored(store)) == 1


async def test_tasks_that_go_on_after_a_cancel_keep_the_batch_open(
    store: Store, sender: SandboxServer
) -> None:
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


async def test_a_batch_that_grows_after_its_end_is_open_again_until_its_second_end(
    store: Store, sender: SandboxServer
) -> None:
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


async def test_a_batch_that_completes_twice_has_each_result_once(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, tasks = a_batch(sender, 3)
    for body in (b"first", b"second"):
        announce(store, batch_id, body=body)
        await fetch(store, a_source(sender.api_url))
        store.release_expired(all_of_them=True)
        working.sql(store, "UPDATE jobs SET status = 'done'")
    assert [result["run_id"] for result in stored(store)] == tasks
    assert {result["version"] for result in stored(store)} == {1}


async def test_a_page_that_is_too_large_is_asked_for_in_halves(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.calls.MAX_ANSWER_BYTES", 40_000)
    sender.change(output_bytes=10_000)
    batch_id, _ = a_batch(sender, 8)
    announce(store, batch_id)
    assert await fetch(store, a_source(sender.api_url)) == "8 of 8 results stored"
    assert sender.state()["calls"][LISTS] == 8  # 100, 50, 25, 12, 6 are too large, then by three


async def test_a_page_size_that_is_refused_is_left_to_the_sender(store: Store) -> None:
    sizes: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks"):
            sizes.append(request.url.params.get("limit"))
            if sizes[-1] is not None:
                return httpx.Response(400, json={"error": "limit is not allowed"})
        return _batch_of_one(request, {"total": 1, "completed": 1})

    announce(store, "batch_1")
    assert await fetch(store, a_source(), client=answering(handler)) == "1 of 1 results stored"
    assert sizes == ["100", None]


async def test_a_page_that_is_refused_with_every_size_is_refused(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks"):
            return httpx.Response(400, json={"error": "no"})
        return _batch_of_one(request, {"total": 1})

    announce(store, "batch_1")
    with pytest.raises(Refused, match="400: no"):
        await fetch(store, a_source(), client=answering(handler))


async def test_a_sender_that_takes_no_size_and_whose_own_is_too_large_is_not_asked_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.calls.MAX_ANSWER_BYTES", 1000)
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return _batch_of_one(request, {"total": 1})
        asked.append(request.url.params.get("limit"))
        assert len(asked) < 100
        if asked[-1] is not None:
            return httpx.Response(400, json={"error": "limit is not allowed"})
        return httpx.Response(200, content=b" " * 1001)

    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="more than 1000 bytes"):
        await fetch(store, a_source(), client=answering(handler))
    assert [size for size in asked if size] == ["100", "50", "25", "12", "6", "3", "1"]


async def test_a_giant_result_is_stored_whole(store: Store, sender: SandboxServer) -> None:
    sender.change(output_bytes=5_000_000)
    batch_id, _ = a_batch(sender, 1)
    announce(store, batch_id)
    await fetch(store, a_source(sender.api_url))
    assert len(json.loads(stored(store)[0]["output"])) == 5_000_000


async def test_numbers_that_are_none_in_the_api_s_json_do_not_lose_the_result(store: Store) -> None:
    text = '{"deepresearch_id": "t1", "status": "completed", "output": [NaN, 1], "cost": Infinity}'
    client = answering(lambda _: httpx.Response(200, text=text))
    announce(store, "t1", kind="task")
    await fetch(store, a_source(), client=client)
    assert (stored(store)[0]["output"], stored(store)[0]["cost"]) == ("[null, 1]", None)


@pytest.mark.parametrize("answer", [{}, {"batch_id": "batch_2"}, [], {"batch": 5}, {"batch_id": 1}])
async def test_an_answer_about_something_else_is_none(store: Store, answer: Any) -> None:
    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="not about batch_1"):
        await fetch(store, a_source(), client=answering(lambda _: httpx.Response(200, json=answer)))


async def test_a_page_of_another_batch_is_not_stored(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = json.loads(_batch_of_one(request, {}).content)
        other = {**answer, "batch_id": "batch_2"} if "tasks" in answer else answer
        return httpx.Response(200, json=other)

    announce(store, "batch_1")
    with pytest.raises(Unavailable, match="not of batch_1"):
        await fetch(store, a_source(), client=answering(handler))
    assert stored(store) == []


async def test_a_listed_task_that_names_another_batch_is_not_stored(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return _batch_of_one(request, {"total": 1, "completed": 1}, batch_id="batch_2")

    announce(store, "batch_1")
    with pytest.raises(NotReady, match="0 of 1 results stored"):
        await fetch(store, a_source(), client=answering(handler))
    assert sql(store, "SELECT * FROM runs") == []


# --- outputs that come late -----------------------------------------------------------------------


def without_output(minutes: float | None) -> Any:
    """A run that the sender says completed so many minutes ago, without an output."""
    at = None if minutes is None else datetime.now(UTC) - timedelta(minutes=minutes)
    shown = {"output": None, "completed_at": at and at.isoformat()}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            run = {"deepresearch_id": "t1", "status": "completed", "batch_id": "batch_1"}
            return httpx.Response(200, json={**run, **shown})
        return _batch_of_one(request, {"total": 1, "completed": 1}, **shown)

    return answering(handler)


@pytest.mark.parametrize(
    ("since_job", "since_end", "believed"),
    [(14, 60, False), (60, 14, False), (16, 16, True), (14, None, False), (16, None, True)],
)
@pytest.mark.parametrize("subject", ["t1", "batch_1"])
async def test_a_completed_run_without_its_output_is_believed_after_a_quarter_of_an_hour(
    store: Store, since_job: float, since_end: float | None, believed: bool, subject: str
) -> None:
    announce(store, subject, kind="task" if subject == "t1" else "batch")
    make_old(store, since_job)
    client = without_output(since_end)
    if believed:
        await fetch(store, a_source(), client=client)
        assert [(row["status"], row["output"]) for row in stored(store)] == [("completed", None)]
        return
    said = "its output is not there" if subject == "t1" else "0 of 1 results stored"
    with pytest.raises(NotReady, match=said):
        await fetch(store, a_source(), client=client)
    assert stored(store) == []


# --- a 403 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "kind"),
    [(200, Refused), (403, Forbidden), (401, Forbidden), (500, Unavailable), (429, RateLimited)],
)
async def test_a_403_is_the_resource_s_own_where_the_account_is_still_welcome(
    store: Store, account: int, kind: type[FetchError]
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        is_listing = request.url.path.endswith("/batches")
        return httpx.Response(account if is_listing else 403, json=[])

    announce(store, "t1", kind="task")
    with pytest.raises(FetchError) as raised:
        await fetch(store, a_source(), client=answering(handler))
    assert type(raised.value) is kind


# --- single runs ----------------------------------------------------------------------------------


def a_task(sender: SandboxServer, query: str = "q") -> str:
    made = ask(sender, "POST", "/deepresearch/tasks", {"query": query, "webhook_url": NOWHERE})
    return str(made["deepresearch_id"])


async def test_a_single_task_is_stored_and_its_endpoint_waits_no_longer(
    store: Store, sender: SandboxServer
) -> None:
    task_id = a_task(sender)
    endpoint_id = store.add_endpoint("valyu", "task", resource=task_id)
    announce(store, task_id, kind="task", endpoint_id=endpoint_id)
    assert await fetch(store, a_source(sender.api_url)) == "run completed"
    assert stored(store)[0]["run_id"] == task_id
    assert job(store, kind="check")["status"] == "done"


async def test_a_single_task_that_goes_on_is_asked_for_again(
    store: Store, sender: SandboxServer
) -> None:
    announce(store, a_task(sender, "q [stuck]"), kind="task")
    with pytest.raises(NotReady, match="run is running"):
        await fetch(store, a_source(sender.api_url))


async def test_a_task_announced_at_its_batch_s_endpoint_is_stored(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, tasks = a_batch(sender, 2)
    endpoint_id = store.add_endpoint("valyu", "batch", resource=batch_id)
    announce(store, tasks[0], kind="task", endpoint_id=endpoint_id)
    await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == [tasks[0]]
    assert job(store, kind="check")["status"] == "pending"  # the batch has more to wait for


@pytest.mark.parametrize("of_a_batch", [True, False])
async def test_a_task_that_is_not_of_the_endpoint_s_batch_is_refused_and_not_stored(
    store: Store, sender: SandboxServer, of_a_batch: bool
) -> None:
    mine, _ = a_batch(sender, 1)
    other = a_batch(sender, 1)[1][0] if of_a_batch else a_task(sender)
    endpoint_id = store.add_endpoint("valyu", "batch", resource=mine)
    announce(store, other, kind="task", endpoint_id=endpoint_id)
    with pytest.raises(Refused, match="not of the batch"):
        await fetch(store, a_source(sender.api_url))
    assert stored(store) == []


async def test_a_task_announced_before_its_batch_s_endpoint_is_bound_is_fetched_once_it_is(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, tasks = a_batch(sender, 1)
    endpoint_id = store.add_endpoint("valyu", "batch")
    announce(store, tasks[0], kind="task", endpoint_id=endpoint_id)
    lease = claim(store)
    with pytest.raises(NotReady, match="not known yet which batch"):
        await fetch(store, a_source(sender.api_url), lease=lease)
    assert (stored(store), resource_of(store, endpoint_id)) == ([], None)
    store.bind_endpoint(endpoint_id, batch_id)
    await fetch(store, a_source(sender.api_url), lease=lease)
    assert [result["run_id"] for result in stored(store)] == tasks


def resource_of(store: Store, endpoint_id: str) -> str | None:
    view = store.find_endpoint(endpoint_id)
    assert view is not None
    return view.resource


async def test_a_task_s_endpoint_is_bound_by_its_first_announcement_that_the_api_confirms(
    store: Store, sender: SandboxServer
) -> None:
    endpoint_id = store.add_endpoint("valyu", "task")
    announce(store, "invented", kind="task", endpoint_id=endpoint_id)
    with pytest.raises(FetchError, match="404"):
        await fetch(store, a_source(sender.api_url))
    assert resource_of(store, endpoint_id) is None
    task_id = a_task(sender)
    announce(store, task_id, kind="task", endpoint_id=endpoint_id)
    await fetch(store, a_source(sender.api_url))
    assert resource_of(store, endpoint_id) == task_id
    check = job(store, kind="check")
    assert (check["subject"], check["status"]) == (task_id, "done")


async def test_what_was_announced_second_is_fetched_and_the_first_is_still_waited_for(
    store: Store, sender: SandboxServer
) -> None:
    first, second = a_task(sender, "q [stuck]"), a_task(sender)
    endpoint_id = store.add_endpoint("valyu", "task")
    announce(store, second, kind="task", endpoint_id=endpoint_id)
    store.bind_endpoint(endpoint_id, first)
    await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == [second]
    assert (resource_of(store, endpoint_id), job(store, kind="check")["status"]) == (
        first,
        "pending",
    )


@pytest.mark.parametrize("meanwhile", ["closed", "bound to another"])
async def test_an_endpoint_that_changes_while_its_run_is_asked_for_stays_as_it_is(
    store: Store, meanwhile: str
) -> None:
    endpoint_id = store.add_endpoint("valyu", "task")
    announce(store, "t1", kind="task", endpoint_id=endpoint_id)

    def handler(request: httpx.Request) -> httpx.Response:
        if meanwhile == "closed":
            store.close_endpoint(endpoint_id)
        else:
            store.bind_endpoint(endpoint_id, "t2")
        run = {"deepresearch_id": "t1", "status": "completed", "output": "x"}
        return httpx.Response(200, json=run)

    await fetch(store, a_source(), client=answering(handler))
    assert [result["run_id"] for result in stored(store)] == ["t1"]
    waits_for = None if meanwhile == "closed" else "t2"
    assert resource_of(store, endpoint_id) == waits_for
    assert job(store, kind="check")["status"] == ("pending" if waits_for else "done")


@pytest.mark.parametrize("kind", ["task", "batch"])
async def test_what_was_acknowledged_before_its_endpoint_was_closed_is_fetched(
    store: Store, sender: SandboxServer, kind: str
) -> None:
    batch_id, tasks = a_batch(sender, 1)
    endpoint_id = store.add_endpoint("valyu", kind)
    announce(store, batch_id if kind == "batch" else tasks[0], kind=kind, endpoint_id=endpoint_id)
    store.close_endpoint(endpoint_id)
    await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == tasks
    assert resource_of(store, endpoint_id) is None


# --- leases and checks ----------------------------------------------------------------------------


async def test_who_has_lost_the_lease_writes_nothing(store: Store, sender: SandboxServer) -> None:
    batch_id, tasks = a_batch(sender, 2)
    announce(store, batch_id)
    announce(store, tasks[0], kind="task")
    for lease in store.claim_jobs("valyu", limit=2):
        store.release_expired(all_of_them=True)
        with pytest.raises(LeaseLost):
            await fetch(store, a_source(sender.api_url), lease=lease)
    assert (stored(store), store.list_batches()) == ([], [])


async def test_a_check_finds_its_batch_by_our_url_and_brings_it_in(
    store: Store, sender: SandboxServer
) -> None:
    endpoint_id = store.add_endpoint("valyu", "batch")
    a_batch(sender, 1, url=f"{NOWHERE}/another")
    batch_id, _ = a_batch(sender, 3, url=f"{NOWHERE}/{endpoint_id}")
    make_due(store)
    assert await fetch(store, a_source(sender.api_url)) == "3 of 3 results stored"
    endpoint = store.find_endpoint(endpoint_id)
    assert endpoint is not None
    assert endpoint.resource == batch_id
    assert [batch.batch_id for batch in store.list_batches()] == [batch_id]


@pytest.mark.parametrize("learnt", [True, False])
async def test_a_check_asks_for_what_its_endpoint_was_bound_to_since(
    store: Store, sender: SandboxServer, learnt: bool
) -> None:
    batch_id, _ = a_batch(sender, 3)  # it names no URL of ours
    endpoint_id = store.add_endpoint("valyu", "batch")
    store.register_batch("valyu", batch_id, endpoint_id=endpoint_id, secret=None)
    assert job(store)["subject"] == batch_id
    if not learnt:  # it was running meanwhile
        sql(store, "UPDATE jobs SET subject = NULL")
    make_due(store)
    assert await fetch(store, a_source(sender.api_url)) == "3 of 3 results stored"
    assert "GET /deepresearch/batches" not in sender.state()["calls"]


async def test_a_check_of_a_task_asks_for_what_came_with_its_secret(
    store: Store, sender: SandboxServer
) -> None:
    endpoint_id = store.add_endpoint("valyu", "task")
    make_due(store)
    with pytest.raises(NotReady, match="not known yet which run"):
        await fetch(store, a_source(sender.api_url))
    store.set_secret(endpoint_id, "s" * 43, resource=a_task(sender))
    store.release_expired(all_of_them=True)
    assert await fetch(store, a_source(sender.api_url)) == "run completed"


async def test_a_check_goes_on_while_no_batch_names_our_url(
    store: Store, sender: SandboxServer
) -> None:
    store.add_endpoint("valyu", "batch")
    a_batch(sender, 1, url=f"{NOWHERE}/another")
    make_due(store)
    with pytest.raises(NotReady, match="no batch of the sender names this endpoint"):
        await fetch(store, a_source(sender.api_url))


async def test_an_unbound_endpoint_is_not_bound_to_a_batch_that_names_another_url(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, 1, url=f"{NOWHERE}/another")
    announce(store, batch_id, endpoint_id=store.add_endpoint("valyu", "batch"))
    with pytest.raises(FetchError, match="names another webhook URL"):
        await fetch(store, a_source(sender.api_url))
    assert stored(store) == []
