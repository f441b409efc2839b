"""Single runs and the endpoints that announced them, refusals, lost leases, and checks."""

from collections.abc import Callable

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
from receiver.sandbox import SandboxServer
from storage import LeaseLost, Store
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.parallel_senders import GroupSender, announce_run, parallel
from tests.receiver.working import (
    NOWHERE,
    a_batch,
    a_source,
    announce,
    answering,
    ask,
    claim,
    fetch,
    job,
    make_due,
    sql,
    stored,
)

running_sender, sender = working.running_sender, working.sender


# --- a 403 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "kind"),
    [(200, Refused), (403, Forbidden), (401, Forbidden), (500, Unavailable), (429, RateLimited)],
)
async def test_403_is_of_the_resource_alone(
    store: Store, account: int, kind: type[FetchError]
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        is_listing = request.url.path.endswith("/batches")
        return httpx.Response(account if is_listing else 403, json=[])

    announce(store, "t1", kind="task")
    with pytest.raises(FetchError) as raised:
        await fetch(store, a_source(), client=answering(handler))
    assert type(raised.value) is kind


JSON_403 = httpx.Response(403, json={"error": {"message": "not yours"}})
PAGE_403 = httpx.Response(403, text="<html>Attention required!</html>")
UNKNOWN = httpx.Response(404, json={"error": {"message": "Run not found"}})


@pytest.mark.parametrize(
    ("run", "probe", "kind"),
    [
        (JSON_403, UNKNOWN, Refused),
        (JSON_403, JSON_403, Forbidden),
        (JSON_403, httpx.Response(401, json={}), Forbidden),
        (JSON_403, PAGE_403, Unavailable),
        (JSON_403, httpx.Response(502), Unavailable),
        (PAGE_403, UNKNOWN, Unavailable),
    ],
)
async def test_html_403_is_nobody_s(
    store: Store, run: httpx.Response, probe: httpx.Response, kind: type[FetchError]
) -> None:
    announce_run(store, "r1", group=None)
    handler: Callable[[httpx.Request], httpx.Response] = lambda r: (  # noqa: E731
        run if "/runs/r1" in r.url.path else probe
    )
    with pytest.raises(FetchError) as raised:
        await fetch(store, parallel(), client=answering(handler))
    assert type(raised.value) is kind


async def test_firewall_page_buries_and_pauses_nothing(store: Store) -> None:
    announce_run(store, "r1", group=None)
    sender = GroupSender({"r1": "completed"}, lambda _: PAGE_403, group_id=None)
    async with working.working(store, parallel(), client=answering(sender)):
        await until(lambda: sql(store, "SELECT * FROM attempts"))
    assert (store.sources.list_paused(), job(store)["status"]) == ([], "pending")
    sender.first = lambda _: None
    make_due(store)
    await working.work_off(store, parallel(), client=answering(sender))
    assert ([run["run_id"] for run in stored(store)], job(store)["status"]) == (["r1"], "done")


# --- single runs ----------------------------------------------------------------------------------


def a_task(sender: SandboxServer, query: str = "q") -> str:
    made = ask(sender, "POST", "/deepresearch/tasks", {"query": query, "webhook_url": NOWHERE})
    return str(made["deepresearch_id"])


async def test_task_is_stored_and_check_ends(store: Store, sender: SandboxServer) -> None:
    task_id = a_task(sender)
    endpoint_id = store.endpoints.add("valyu", "task", resource=task_id)
    announce(store, task_id, kind="task", endpoint_id=endpoint_id)
    assert await fetch(store, a_source(sender.api_url)) == "run completed"
    assert stored(store)[0]["run_id"] == task_id
    assert job(store, kind="check")["status"] == "done"


async def test_running_task_is_asked_again(store: Store, sender: SandboxServer) -> None:
    announce(store, a_task(sender, "q [stuck]"), kind="task")
    with pytest.raises(NotReady, match="run is running"):
        await fetch(store, a_source(sender.api_url))


async def test_task_at_batch_endpoint_is_stored(store: Store, sender: SandboxServer) -> None:
    batch_id, tasks = a_batch(sender, 2)
    endpoint_id = store.endpoints.add("valyu", "batch", resource=batch_id)
    announce(store, tasks[0], kind="task", endpoint_id=endpoint_id)
    await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == [tasks[0]]
    assert job(store, kind="check")["status"] == "pending"  # the batch has more to wait for


@pytest.mark.parametrize("of_a_batch", [True, False])
async def test_foreign_task_at_batch_is_refused(
    store: Store, sender: SandboxServer, of_a_batch: bool
) -> None:
    mine, _ = a_batch(sender, 1)
    other = a_batch(sender, 1)[1][0] if of_a_batch else a_task(sender)
    endpoint_id = store.endpoints.add("valyu", "batch", resource=mine)
    announce(store, other, kind="task", endpoint_id=endpoint_id)
    with pytest.raises(Refused, match="not of the batch"):
        await fetch(store, a_source(sender.api_url))
    assert stored(store) == []


async def test_task_before_binding_fetched_after(store: Store, sender: SandboxServer) -> None:
    batch_id, tasks = a_batch(sender, 1)
    endpoint_id = store.endpoints.add("valyu", "batch")
    announce(store, tasks[0], kind="task", endpoint_id=endpoint_id)
    lease = claim(store)
    with pytest.raises(NotReady, match="not known yet which batch"):
        await fetch(store, a_source(sender.api_url), lease=lease)
    assert (stored(store), resource_of(store, endpoint_id)) == ([], None)
    store.endpoints.bind(endpoint_id, batch_id)
    await fetch(store, a_source(sender.api_url), lease=lease)
    assert [result["run_id"] for result in stored(store)] == tasks


def resource_of(store: Store, endpoint_id: str) -> str | None:
    view = store.endpoints.find(endpoint_id)
    assert view is not None
    return view.resource


async def test_confirmed_announcement_binds_task_endpoint(
    store: Store, sender: SandboxServer
) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
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


async def test_second_announcement_fetched_first_still_awaited(
    store: Store, sender: SandboxServer
) -> None:
    first, second = a_task(sender, "q [stuck]"), a_task(sender)
    endpoint_id = store.endpoints.add("valyu", "task")
    announce(store, second, kind="task", endpoint_id=endpoint_id)
    store.endpoints.bind(endpoint_id, first)
    await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == [second]
    assert (resource_of(store, endpoint_id), job(store, kind="check")["status"]) == (
        first,
        "pending",
    )


@pytest.mark.parametrize("meanwhile", ["closed", "bound to another"])
async def test_changed_endpoint_stays_as_is(store: Store, meanwhile: str) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
    announce(store, "t1", kind="task", endpoint_id=endpoint_id)

    def handler(request: httpx.Request) -> httpx.Response:
        if meanwhile == "closed":
            store.endpoints.close(endpoint_id)
        else:
            store.endpoints.bind(endpoint_id, "t2")
        run = {"deepresearch_id": "t1", "status": "completed", "output": "x"}
        return httpx.Response(200, json=run)

    await fetch(store, a_source(), client=answering(handler))
    assert [result["run_id"] for result in stored(store)] == ["t1"]
    waits_for = None if meanwhile == "closed" else "t2"
    assert resource_of(store, endpoint_id) == waits_for
    assert job(store, kind="check")["status"] == ("pending" if waits_for else "done")


@pytest.mark.parametrize("kind", ["task", "batch"])
async def test_acknowledged_before_close_is_fetched(
    store: Store, sender: SandboxServer, kind: str
) -> None:
    batch_id, tasks = a_batch(sender, 1)
    endpoint_id = store.endpoints.add("valyu", kind)
    announce(store, batch_id if kind == "batch" else tasks[0], kind=kind, endpoint_id=endpoint_id)
    store.endpoints.close(endpoint_id)
    await fetch(store, a_source(sender.api_url))
    assert [result["run_id"] for result in stored(store)] == tasks
    assert resource_of(store, endpoint_id) is None


# --- leases and checks ----------------------------------------------------------------------------


async def test_lost_lease_writes_nothing(store: Store, sender: SandboxServer) -> None:
    batch_id, tasks = a_batch(sender, 2)
    announce(store, batch_id)
    announce(store, tasks[0], kind="task")
    for lease in store.jobs.claim("valyu", limit=2):
        working.taken_over(store)
        with pytest.raises(LeaseLost):
            await fetch(store, a_source(sender.api_url), lease=lease)
    assert (stored(store), store.batches.list_newest()) == ([], [])


async def test_check_finds_batch_by_url(store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "batch")
    a_batch(sender, 1, url=f"{NOWHERE}/another")
    batch_id, _ = a_batch(sender, 3, url=f"{NOWHERE}/{endpoint_id}")
    make_due(store)
    assert await fetch(store, a_source(sender.api_url)) == "3 of 3 results stored"
    endpoint = store.endpoints.find(endpoint_id)
    assert endpoint is not None
    assert endpoint.resource == batch_id
    assert [batch.batch_id for batch in store.batches.list_newest()] == [batch_id]


@pytest.mark.parametrize("learnt", [True, False])
async def test_check_asks_for_bound_resource(
    store: Store, sender: SandboxServer, learnt: bool
) -> None:
    batch_id, _ = a_batch(sender, 3)  # it names no URL of ours
    endpoint_id = store.endpoints.add("valyu", "batch")
    store.batches.register("valyu", batch_id, endpoint_id=endpoint_id, secret=None)
    assert job(store)["subject"] == batch_id
    if not learnt:  # it was running meanwhile
        sql(store, "UPDATE jobs SET subject = NULL")
    make_due(store)
    assert await fetch(store, a_source(sender.api_url)) == "3 of 3 results stored"
    assert "GET /deepresearch/batches" not in sender.state()["calls"]


async def test_check_uses_task_given_with_secret(store: Store, sender: SandboxServer) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
    make_due(store)
    with pytest.raises(NotReady, match="not known yet which run"):
        await fetch(store, a_source(sender.api_url))
    store.endpoints.set_secret(endpoint_id, "s" * 43, resource=a_task(sender))
    working.taken_over(store)
    assert await fetch(store, a_source(sender.api_url)) == "run completed"


async def test_check_continues_until_url_appears(store: Store, sender: SandboxServer) -> None:
    store.endpoints.add("valyu", "batch")
    a_batch(sender, 1, url=f"{NOWHERE}/another")
    make_due(store)
    with pytest.raises(NotReady, match="no batch of the sender names this endpoint"):
        await fetch(store, a_source(sender.api_url))


async def test_unbound_endpoint_ignores_other_urls(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 1, url=f"{NOWHERE}/another")
    announce(store, batch_id, endpoint_id=store.endpoints.add("valyu", "batch"))
    with pytest.raises(FetchError, match="names another webhook URL"):
        await fetch(store, a_source(sender.api_url))
    assert stored(store) == []
