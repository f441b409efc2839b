"""Switches: how they are set, and the behaviour that each of Valyu's changes."""

import httpx
import pytest
from valyu import Valyu

from receiver.sandbox import ManualClock, SandboxError, SandboxServer, Switches
from receiver.sandbox.switches import assignments, described, parse
from tests.receiver.sandbox.conftest import Inbox, a_batch

BATCHES = "/deepresearch/batches"


def a_batch_id(sdk: Valyu, *queries: str) -> str:
    return str(a_batch(sdk, *queries).batch_id)


def test_every_switch_is_described() -> None:
    assert [each.name for each in described() if not each.meaning] == []


@pytest.mark.parametrize(
    "wrong",
    [{"copys": 2}, {"copies": 0}, {"duration": [2, 1]}, {"speed": 0}, {"faults": [{"kind": "x"}]}],
)
def test_wrong_switch_changes_nothing(sandbox: SandboxServer, wrong: dict[str, object]) -> None:
    before = sandbox.state()["switches"]
    with pytest.raises(SandboxError):
        sandbox.change(**wrong)
    assert sandbox.state()["switches"] == before


def test_switches_can_be_written_as_text() -> None:
    values = assignments(["duration=0", "webhook=false", "page_order=newest"])
    switches = parse(Switches, values)
    assert (switches.duration, switches.webhook) == ((0, 0), False)
    assert switches.page_order == "newest"
    with pytest.raises(SandboxError, match="name=value"):
        assignments(["duration"])


def test_a_reset_forgets_everything(sdk: Valyu, sandbox: SandboxServer) -> None:
    a_batch_id(sdk)
    sandbox.change(copies=9)
    sandbox.reset()
    state = sandbox.state()
    assert (state["batches"], state["tasks"], state["calls"]) == ([], {}, {})
    assert state["switches"]["copies"] == 1


def test_calls_are_counted_by_endpoint(sdk: Valyu, sandbox: SandboxServer) -> None:
    sdk.batch.list_tasks(a_batch_id(sdk))
    assert sandbox.state()["calls"] == {
        f"POST {BATCHES}": 1,
        f"POST {BATCHES}/{{batch_id}}/tasks": 1,
        f"GET {BATCHES}/{{batch_id}}/tasks": 1,
    }


@pytest.mark.parametrize("status", [200, 201, 202])
def test_posts_can_succeed_in_three_ways(
    sandbox: SandboxServer, http: httpx.Client, status: int
) -> None:
    sandbox.change(post_status=status, success_flag=True)
    created = http.post(BATCHES, json={})
    assert (created.status_code, created.json()["success"]) == (status, True)


def test_sdk_takes_answers_marked_success(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(success_flag=True)
    batch = a_batch_id(sdk)
    page = sdk.batch.list_tasks(batch)
    assert sdk.batch.status(batch).success
    assert sdk.deepresearch.status(page.tasks[0].deepresearch_id).status == "completed"


def test_first_tasks_may_fail(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(failing_tasks=2)
    tasks = sdk.batch.list_tasks(a_batch_id(sdk, "a", "b", "c")).tasks
    assert [task.status for task in tasks] == ["failed", "failed", "completed"]


def test_switches_decide_what_a_failed_task_shows(sdk: Valyu, sandbox: SandboxServer) -> None:
    batch = a_batch_id(sdk, "[fail]")
    plain = sdk.batch.list_tasks(batch, include_output=True).tasks[0]
    assert (plain.cost, plain.completed_at, plain.output) == (0, None, None)
    assert plain.error
    sandbox.change(
        failed_tasks_cost=True, completed_at_on_failed=True, partial_output_on_failed=True
    )
    task = sdk.batch.list_tasks(batch, include_output=True).tasks[0]
    assert (task.cost, task.output[:2], task.completed_at[-1]) == (0.625, "# ", "Z")
    assert sdk.batch.status(batch).batch.cost == 0.625


def test_ended_batch_takes_no_tasks(sdk: Valyu) -> None:
    refused = sdk.batch.add_tasks(a_batch_id(sdk), [{"query": "late"}])
    assert refused.error == "Cannot add tasks to a batch that is completed"


def test_a_reopened_batch_is_announced_again(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(add_after_end=True)
    batch = sdk.batch.create(webhook_url=inbox.url).batch_id
    for query in ("one", "two"):
        assert sdk.batch.add_tasks(batch, [{"query": query}]).success
    inbox.expect(2)
    assert sdk.batch.status(batch).batch.counts.completed == 2


def test_a_batch_can_settle_after_its_last_task(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(settle=30)
    batch = a_batch_id(sdk)
    sandbox.change(settle=0)
    assert sdk.batch.status(batch).batch.status == "processing"
    assert sdk.batch.add_tasks(batch, [{"query": "more"}]).success
    assert sdk.batch.status(batch).batch.status == "completed"


def test_held_tasks_go_when_released(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch = a_batch_id(sdk, "a", "b")
    assert sdk.batch.status(batch).batch.counts.queued == 2
    sandbox.change(hold=False)
    assert sdk.batch.status(batch).batch.counts.completed == 2


def test_speed_shortens_every_wait(sdk: Valyu, sandbox: SandboxServer, clock: ManualClock) -> None:
    sandbox.change(duration=3000, settle=1000, speed=1000)
    batch = a_batch_id(sdk)
    clock.advance(3)
    status = sdk.batch.status(batch).batch
    assert (status.counts.completed, status.status) == (1, "processing")
    clock.advance(1)
    assert sdk.batch.status(batch).batch.status == "completed"


def test_batch_size_can_be_limited(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True, max_batch_tasks=3)
    batch = a_batch_id(sdk, "a", "b")
    assert "at most 3" in sdk.batch.add_tasks(batch, [{"query": "c"}, {"query": "d"}]).error
    assert sdk.batch.status(batch).batch.counts.total == 2


def test_a_switch_refuses_duplicate_task_ids(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch, twice = sdk.batch.create().batch_id, [{"id": "a", "query": "q"}] * 2
    assert sdk.batch.add_tasks(batch, twice).success
    sandbox.change(refuse_duplicate_ids=True)
    assert "unique" in sdk.batch.add_tasks(batch, twice).error
    assert "unique" in sdk.batch.add_tasks(batch, twice[:1]).error


def test_tasks_may_outlive_cancel(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(cancel_keeps_running=True, hold=True)
    batch = a_batch_id(sdk, "one [stuck]")
    sandbox.change(hold=False)
    sandbox.change(hold=True)
    sdk.batch.add_tasks(batch, [{"query": "two"}])
    assert sdk.batch.cancel(batch).cancelled_count == 1
    counts = sdk.batch.status(batch).batch.counts
    assert (counts.running, counts.cancelled) == (1, 1)


@pytest.mark.parametrize("status", ["completed", "completed_with_errors", "cancelled"])
def test_a_switch_decides_the_end_after_single_cancels(
    sdk: Valyu, sandbox: SandboxServer, status: str
) -> None:
    sandbox.change(end_after_single_cancel=status)
    batch = a_batch_id(sdk, "one", "two [stuck]")
    sdk.deepresearch.cancel(sdk.batch.list_tasks(batch, status="running").tasks[0].deepresearch_id)
    assert sdk.batch.status(batch).batch.status == status


@pytest.mark.parametrize("size", [1, 50, 1_000_000])
def test_output_size_can_be_set(sdk: Valyu, sandbox: SandboxServer, size: int) -> None:
    sandbox.change(output_bytes=size)
    task = sdk.batch.list_tasks(a_batch_id(sdk, "größe"), include_output=True).tasks[0]
    assert len(task.output.encode()) == size


def test_outputs_follow_seed_and_query(sdk: Valyu, sandbox: SandboxServer) -> None:
    def output(seed: int) -> str:
        sandbox.change(seed=seed)
        return str(sdk.batch.list_tasks(a_batch_id(sdk), include_output=True).tasks[0].output)

    assert output(1) == output(1) != output(2)


def test_mode_may_have_new_name(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(research_mode_only=True)
    created = sdk.deepresearch.create(query="q", mode="fast")
    task = sdk.deepresearch.status(created.deepresearch_id)
    assert (created.mode, task.research_mode, task.mode) == ("fast", "fast", "fast")


def test_a_status_can_carry_the_metadata(sandbox: SandboxServer, http: httpx.Client) -> None:
    made = http.post("/deepresearch/tasks", json={"query": "q", "metadata": {"row": 1}}).json()
    path = f"/deepresearch/tasks/{made['deepresearch_id']}/status"
    assert "metadata" not in http.get(path).json()
    sandbox.change(metadata_in_status=True)
    assert http.get(path).json()["metadata"] == {"row": 1}


@pytest.mark.parametrize(("form", "key"), [("storage", False), ("presigned", False), ("api", True)])
def test_pdf_is_at_its_url(
    sdk: Valyu, sandbox: SandboxServer, http: httpx.Client, form: str, key: bool
) -> None:
    sandbox.change(pdf_url=form)
    task = sdk.deepresearch.create(query="q", output_formats=["pdf"]).deepresearch_id
    url = sdk.deepresearch.status(task).pdf_url
    assert http.get(url).content.startswith(b"%PDF")
    assert http.get(url, headers={"x-api-key": ""}).status_code == (401 if key else 200)


def test_signed_urls_can_run_out(
    sdk: Valyu, sandbox: SandboxServer, http: httpx.Client, clock: ManualClock
) -> None:
    sandbox.change(pdf_url="presigned", url_lifetime=3600)
    task = sdk.deepresearch.create(query="q", output_formats=["pdf"]).deepresearch_id
    url = sdk.deepresearch.status(task).pdf_url
    assert http.get(url).status_code == 200
    clock.advance(3601)
    assert http.get(url).json()["error"] == "Token expired"


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"tasks": 1}'])
def test_nonsensical_body_is_refused(sdk: Valyu, http: httpx.Client, body: bytes) -> None:
    refused = http.post(f"{BATCHES}/{a_batch_id(sdk)}/tasks", content=body)
    assert (refused.status_code, refused.json()["success"]) == (400, False)


def test_unknown_paths_refused_in_json(http: httpx.Client) -> None:
    assert http.get("/nothing").json() == {"success": False, "error": "Not found"}
    assert http.put(BATCHES).json() == {"success": False, "error": "Method not allowed"}
