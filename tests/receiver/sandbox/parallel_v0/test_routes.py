"""Parallel's v0 over HTTP: tasks, runs and batches, as contracts/parallel.md has them."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from receiver.sandbox import ManualClock, SandboxServer
from tests.processes import until
from tests.receiver.sandbox.parallel_v0.calls import TASK, a_batch, a_run, a_task, status_map

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def test_creating_a_task_gives_its_id(v0: httpx.Client) -> None:
    assert re.fullmatch(UUID, a_task(v0))


def test_runs_are_in_the_order_of_their_requests(v0: httpx.Client) -> None:
    task = a_task(v0)
    batch = a_batch(v0, task, "Acme, Inc.", "Globex")
    assert list(batch) == ["task_id", "batch_run_id", "run_ids", "created_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", batch["created_at"])
    runs = [v0.get(f"/tasks/{task}/runs/{run}").json() for run in batch["run_ids"]]
    assert [run["input"] for run in runs] == [
        {"arguments": {"company": company}} for company in ("Acme, Inc.", "Globex")
    ]


def test_run_object_matches_the_contract(v0: httpx.Client) -> None:
    task = a_task(v0)
    batch = a_batch(v0, task, "Globex")
    run = v0.get(f"/tasks/{task}/runs/{batch['run_ids'][0]}").json()
    output = run.pop("output")
    assert run == {
        "task_id": task,
        "batch_run_id": batch["batch_run_id"],
        "run_id": batch["run_ids"][0],
        "status": "complete",
        "runner": "neon",
        "input": {"arguments": {"company": "Globex"}},
    }
    assert list(output) == ["city", "note"]


def test_outputs_depend_on_seed_prompt_and_arguments(
    v0: httpx.Client, sandbox: SandboxServer
) -> None:
    task = a_task(v0)
    first, again, other = (a_run(v0, task, name)["output"] for name in ("a", "a", "b"))
    sandbox.change(seed=1)
    assert first == again
    assert other != first != a_run(v0, task, "a")["output"]


def test_outputs_without_schema_have_the_ordered_size(
    v0: httpx.Client, sandbox: SandboxServer
) -> None:
    sandbox.change(output_bytes=10_000)
    plain = a_run(v0, a_task(v0, output_schema={}), "Globex")["output"]
    assert len(plain["output"].encode()) == 10_000
    assert plain["output"].startswith("# Name the city where Globex has its head office")
    shaped = a_run(v0, a_task(v0), "Globex")["output"]
    assert len(shaped["city"].encode()) == 10_000
    text = a_run(v0, a_task(v0, output_schema={"type": "integer"}), "Globex")["output"]
    assert isinstance(text["output"], int)


def test_status_map_names_used_statuses(v0: httpx.Client, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch = a_batch(v0, a_task(v0), "good", "[fail]", "[stuck]", "[tools]", "[cancel]")
    good, failed, stuck, waiting, cancelled = batch["run_ids"]
    assert status_map(v0, batch) == {"queued": batch["run_ids"]}
    sandbox.change(hold=False)
    ends = {"failed": [failed], "complete": [good], "cancelled": [cancelled]}
    still = {"running": [stuck], "awaiting_tool_calls": [waiting]}
    assert status_map(v0, batch) == ends | still


def test_runs_take_their_time(v0: httpx.Client, sandbox: SandboxServer, clock: ManualClock) -> None:
    sandbox.change(duration=30, speed=10)
    batch = a_batch(v0, a_task(v0), "a", "[cancel]")
    assert status_map(v0, batch) == {"queued": batch["run_ids"]}
    clock.advance(1)
    assert set(status_map(v0, batch)) == {"running", "cancelling"}
    clock.advance(2)
    assert set(status_map(v0, batch)) == {"complete", "cancelled"}


def test_first_runs_may_fail(v0: httpx.Client, sandbox: SandboxServer) -> None:
    sandbox.change(failing_tasks=2)
    batch = a_batch(v0, a_task(v0), "a", "b", "c")
    assert status_map(v0, batch)["failed"] == batch["run_ids"][:2]
    run = v0.get(f"/tasks/{batch['task_id']}/runs/{batch['run_ids'][0]}").json()
    assert run["error"]
    assert "output" not in run


def test_a_run_can_have_its_own_runner(v0: httpx.Client) -> None:
    task = a_task(v0)
    requests = [{"arguments": {"company": "a"}, "runner": "xenon"}, {"arguments": {"company": "b"}}]
    created = v0.post(f"/tasks/{task}/batches", json={"task_run_requests": requests}).json()
    runs = [v0.get(f"/tasks/{task}/runs/{run}").json() for run in created["run_ids"]]
    assert [run["runner"] for run in runs] == ["xenon", "argon"]


def test_a_single_run_is_answered_at_its_end(
    v0: httpx.Client, sandbox: SandboxServer, clock: ManualClock
) -> None:
    sandbox.change(duration=1)
    task = a_task(v0)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(a_run, v0, task, "Globex")
        until(clock.next_call)
        assert not answer.done()
        clock.advance(1)
        done = answer.result()
    assert (done["status"], done["runner"], list(done["output"])) == (
        "complete",
        "krypton-80",
        ["city", "note"],
    )
    queued = a_run(v0, task, "Globex", enqueue_run=True)
    assert (queued["status"], "batch_run_id" in queued) == ("queued", False)
    path = f"/tasks/{task}/runs/{queued['run_id']}"
    clock.advance(1)
    assert v0.get(path).json()["output"] == done["output"]


@pytest.mark.parametrize(
    ("where", "run", "result"), [("run", 200, 404), ("result", 404, 200), ("both", 200, 200)]
)
def test_run_path_is_a_switch(
    v0: httpx.Client, sandbox: SandboxServer, where: str, run: int, result: int
) -> None:
    sandbox.change(v0_run_path=where)
    task = a_task(v0)
    path = f"/tasks/{task}/runs/{a_run(v0, task, 'Globex')['run_id']}"
    assert v0.get(path).status_code == run
    assert v0.get(f"{path}/result").status_code == result


def test_any_key_works_but_none(sandbox: SandboxServer) -> None:
    for key, status in (("", 401), ("x", 200)):
        headers = {"x-api-key": key}
        answer = httpx.post(f"{sandbox.url}/v0/tasks", json=TASK, headers=headers, trust_env=False)
        assert answer.status_code == status
    assert httpx.post(f"{sandbox.url}/v0/tasks", trust_env=False).json() == {
        "error": "Invalid API key"
    }


@pytest.mark.parametrize("path", ["batches/none", "batches/none/export", "runs/none"])
def test_ids_of_another_task_are_not_found(v0: httpx.Client, path: str) -> None:
    batch = a_batch(v0, a_task(v0), "Globex")
    known = path.replace("batches/none", f"batches/{batch['batch_run_id']}")
    known = known.replace("runs/none", f"runs/{batch['run_ids'][0]}")
    assert v0.get(f"/tasks/{batch['task_id']}/{known}").status_code == 200
    assert v0.get(f"/tasks/{a_task(v0)}/{known}").status_code == 404
    assert v0.get(f"/tasks/{batch['task_id']}/{path}").status_code == 404
    assert v0.get(f"/tasks/none/{known}").json() == {"error": "Task not found"}
    assert v0.get("/elsewhere").json() == {"error": "Not found"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "task_run_requests"),
        ({"task_run_requests": []}, "task_run_requests"),
        ({"task_run_requests": [{"arguments": {}}]}, "arguments.company"),
        ({"task_run_requests": [{"arguments": 3}]}, "arguments"),
    ],
)
def test_nonsensical_batch_is_422(v0: httpx.Client, wrong: Any, said: str) -> None:
    refused = v0.post(f"/tasks/{a_task(v0)}/batches", json=wrong)
    assert refused.status_code == 422
    assert said in refused.json()["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"input_schema": {"required": 3}},
        {"output_schema": {"properties": [1]}},
        {"output_schema": {"properties": {"a": {"enum": []}}}},
    ],
)
def test_nonsensical_task_is_422(v0: httpx.Client, wrong: Any) -> None:
    refused = v0.post("/tasks", json=TASK | wrong)
    assert (refused.status_code, next(iter(wrong)) in refused.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    "callback",
    [
        {"url": "http://elsewhere.example/"},
        {"url": "ftp://127.0.0.1/"},
        {"url": "https://a.example", "headers": {"X-A": "a\nb"}},
        {"url": "https://a.example", "headers": {"X A": "b"}},
        {"url": "https://a.example", "secret": ""},
    ],
)
def test_impossible_callback_is_422(v0: httpx.Client, callback: Any) -> None:
    refused = v0.post(
        f"/tasks/{a_task(v0)}/runners/neon/runs",
        json={"arguments": {"company": "a"}, "callback_webhook": callback},
    )
    assert refused.status_code == 422
    assert "callback_webhook" in refused.json()["error"]


def test_batch_needs_a_runner(v0: httpx.Client) -> None:
    task = a_task(v0, processor=None, input_schema={})
    refused = v0.post(f"/tasks/{task}/batches", json={"task_run_requests": [{}]})
    assert (refused.status_code, refused.json()["error"][:6]) == (422, "runner")
    assert v0.post("/tasks", content=b"{").status_code == 422


def test_faults_and_counts_name_v0(v0: httpx.Client, sandbox: SandboxServer) -> None:
    sandbox.add_fault("GET /v0/tasks/*/batches/*", status=429, retry_after=7)
    batch = a_batch(v0, a_task(v0), "Globex")
    path = f"/tasks/{batch['task_id']}/batches/{batch['batch_run_id']}"
    limited = v0.get(path)
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "7")
    assert limited.json() == {"error": "rate_limited", "retry_after": 7}
    assert v0.get(path).status_code == 200
    calls = sandbox.state()["calls"]
    assert calls["GET /v0/tasks/{task_id}/batches/{batch_run_id}"] == 2


def test_the_state_shows_runs_until_a_reset(v0: httpx.Client, sandbox: SandboxServer) -> None:
    batch = a_batch(v0, a_task(v0), "a", "[fail]", "[stuck]")
    state = sandbox.state()
    counts = {"complete": 1, "failed": 1, "running": 1}
    assert (state["v0_tasks"], state["v0_runs"]) == (1, counts)
    assert state["v0_batches"] == {batch["batch_run_id"]: counts}
    sandbox.reset()
    assert sandbox.state()["v0_runs"] == {}
    assert v0.get(f"/tasks/{batch['task_id']}/runs/{batch['run_ids'][0]}").status_code == 404
