"""The callbacks of v0: when they come, what they say, and how often."""

import json
from collections.abc import Iterator

import httpx
import pytest

from receiver.sandbox import SandboxError, SandboxServer
from tests.receiver.sandbox.conftest import log
from tests.receiver.sandbox.parallel_v0.calls import Listener, a_batch, a_run, a_task

TOKEN = {"Authorization": "Bearer tok-r1"}


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def test_runs_call_back_with_run_object_and_headers(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    task = a_task(v0)
    callback = listener.callback(headers={**TOKEN, "content-type": "text/plain", "X-Row": "1"})
    batch = a_batch(v0, task, "a", "b", **callback)
    assert [entry["status"] for entry in log(sandbox)] == [200, 200]
    runs = [v0.get(f"/tasks/{task}/runs/{run}").json() for run in batch["run_ids"]]
    assert sorted(map(str, listener.bodies())) == sorted(map(str, runs))
    for headers in listener.headers:
        assert headers["authorization"] == "Bearer tok-r1"
        assert (headers["x-row"], headers["content-type"]) == ("1", "application/json")
        assert "x-webhook-signature" not in headers


def test_a_run_without_callback_is_silent(v0: httpx.Client, sandbox: SandboxServer) -> None:
    batch = a_batch(v0, a_task(v0), "a")
    assert log(sandbox) == []
    with pytest.raises(SandboxError, match="without a webhook"):
        sandbox.deliver(batch["run_ids"][0])


@pytest.mark.parametrize(("switch", "count"), [(True, 2), (False, 1)])
def test_a_switch_decides_callbacks_of_failed_runs(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener, switch: bool, count: int
) -> None:
    sandbox.change(v0_callback_on_failed=switch)
    a_batch(v0, a_task(v0), "a", "[fail]", "[cancel]", "[stuck]", **listener.callback())
    assert len(log(sandbox)) == count
    statuses = ["complete", "failed"][:count]
    assert sorted(body["status"] for body in listener.bodies()) == statuses


def test_a_cancelled_run_can_call_back(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(webhook_on_cancel=True)
    a_batch(v0, a_task(v0), "[cancel]", **listener.callback())
    log(sandbox)
    assert [body["status"] for body in listener.bodies()] == ["cancelled"]


def test_the_body_can_be_foreign_or_unreadable(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(v0_callback_body="foreign")
    task = a_task(v0)
    run = a_run(v0, task, "a", **listener.callback())
    log(sandbox)
    [foreign] = listener.bodies()
    assert foreign.pop("run_id") != run.pop("run_id")
    assert foreign == run
    sandbox.change(v0_callback_body="unreadable")
    a_run(v0, task, "a", **listener.callback())
    with pytest.raises(UnicodeDecodeError):
        listener.expect(2)[1].body.decode()


@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (2, 3)])
def test_a_switch_decides_how_often_callbacks_are_retried(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener, retries: int, tries: int
) -> None:
    listener.answers = [500] * 9
    sandbox.change(v0_retries=retries)
    a_run(v0, a_task(v0), "a", **listener.callback())
    assert [entry["attempt"] for entry in log(sandbox)] == list(range(1, tries + 1))
    assert len({each.body for each in listener.received}) == 1


def test_callbacks_off_doubled_or_reversed(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    task = a_task(v0)
    sandbox.change(webhook=False)
    a_batch(v0, task, "a", **listener.callback())
    assert log(sandbox) == []
    sandbox.change(webhook=True, copies=2, reorder=2, reorder_wait=30)
    batch = a_batch(v0, task, "a", "b", **listener.callback())
    listener.expect(4)
    first, second = batch["run_ids"]
    assert [body["run_id"] for body in listener.bodies()] == [second, second, first, first]


def test_callbacks_can_be_sent_again(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(hold=True)
    batch = a_batch(v0, a_task(v0), "a", "b", **listener.callback())
    sandbox.deliver(batch["run_ids"][0], status="complete")
    assert json.loads(listener.expect(1)[0].body)["status"] == "complete"
    sandbox.deliver(batch["batch_run_id"], times=2)
    listener.expect(5)
    assert [body["status"] for body in listener.bodies()[1:]] == ["queued"] * 4


def test_callbacks_can_be_kept_back(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(delivery_delay=[30, 30])
    a_run(v0, a_task(v0), "a", **listener.callback())
    assert sandbox.state()["pending_deliveries"] == 1
    assert listener.received == []


def test_unknown_thing_is_not_delivered(sandbox: SandboxServer) -> None:
    with pytest.raises(SandboxError, match="not found"):
        sandbox.deliver("none")
