"""Pages and polls: in every size and order, with and without what a client might rely on."""

import httpx
import pytest
from valyu import Valyu

from receiver.sandbox import SandboxServer
from tests.receiver.sandbox.conftest import a_batch

BATCHES = "/deepresearch/batches"


def a_batch_id(sdk: Valyu, *queries: str) -> str:
    return str(a_batch(sdk, *queries).batch_id)


def test_pages_have_size_and_limit(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(page_size=2, max_page_size=3)
    batch = a_batch_id(sdk, "a", "b", "c", "d")
    assert sdk.batch.list_tasks(batch).pagination.count == 2
    assert sdk.batch.list_tasks(batch, limit=100).pagination.count == 3


@pytest.mark.parametrize("order", ["oldest", "newest", "id"])
def test_order_of_tasks_is_switch(sdk: Valyu, sandbox: SandboxServer, order: str) -> None:
    sandbox.change(page_order=order)
    tasks = sdk.batch.list_tasks(a_batch_id(sdk, "a", "b", "c")).tasks
    keys = [task.deepresearch_id if order == "id" else task.query for task in tasks]
    assert keys == sorted(keys, reverse=order == "newest")


def test_has_more_can_promise_nothing(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(has_more="late")
    batch = a_batch_id(sdk, "a", "b")
    last = sdk.batch.list_tasks(batch)
    empty = sdk.batch.list_tasks(batch, last_key=last.pagination.last_key)
    assert (len(last.tasks), last.pagination.has_more) == (2, True)
    assert (empty.tasks, empty.pagination.has_more) == ([], False)


def test_has_more_can_deny_more(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(has_more="early")
    page = sdk.batch.list_tasks(a_batch_id(sdk, "a", "b"), limit=1)
    assert (page.pagination.has_more, page.pagination.last_key) == (False, None)


def test_list_can_lack_outputs(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(outputs_in_list=False)
    task = sdk.batch.list_tasks(a_batch_id(sdk), include_output=True).tasks[0]
    assert task.output is None
    assert sdk.deepresearch.status(task.deepresearch_id).output


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "last_key=x", "last_key=eyJrIjotMX0", "status=done"]
)
def test_nonsensical_list_is_refused(sdk: Valyu, http: httpx.Client, query: str) -> None:
    assert http.get(f"{BATCHES}/{a_batch_id(sdk)}/tasks?{query}").status_code == 400


def test_unchanged_status_is_304(sdk: Valyu, sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.change(poll_hint=3)
    path = f"/deepresearch/tasks/{sdk.deepresearch.create(query='[stuck]').deepresearch_id}/status"
    first = http.get(path)
    again = http.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (first.headers["ETag"][:3], again.headers["Retry-After"]) == ('W/"', "3")


def test_etag_can_be_missing(sdk: Valyu, sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.change(etag=False)
    task = sdk.deepresearch.create(query="q").deepresearch_id
    assert "ETag" not in http.get(f"/deepresearch/tasks/{task}/status").headers
