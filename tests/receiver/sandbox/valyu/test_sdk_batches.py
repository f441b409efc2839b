"""The official SDK's batches against the sandbox: what it cannot parse is a bug of the sandbox."""

import pytest
from valyu import Valyu
from valyu.types.deepresearch import BatchStatusResponse, BatchTaskInput

from receiver.sandbox import SandboxServer

HOOK = "https://receiver.example/hook"


def a_batch(sdk: Valyu, count: int = 3) -> str:
    batch = sdk.batch.create(mode="fast")
    added = sdk.batch.add_tasks(batch.batch_id, [{"query": f"q{n}"} for n in range(count)])
    assert added.success, added.error
    return str(batch.batch_id)


def test_new_batch_is_open_and_empty(sdk: Valyu) -> None:
    schema = {"type": "object", "properties": {"price": {"type": "number"}}}
    batch = sdk.batch.create(
        name="Grid", mode="heavy", output_formats=[schema], search={"search_type": "web"}
    )
    assert batch.success, batch.error
    assert (batch.name, batch.mode, batch.status) == ("Grid", "heavy", "open")
    assert (batch.output_formats, batch.search_params) == ([schema], {"search_type": "web"})
    assert (batch.counts.total, batch.cost) == (0, 0)


def test_secret_is_shown_once(sdk: Valyu) -> None:
    created = sdk.batch.create(webhook_url=HOOK)
    shown = sdk.batch.status(created.batch_id).batch
    assert len(bytes.fromhex(created.webhook_secret)) == 32
    assert (shown.webhook_url, shown.webhook_secret) == (HOOK, None)


def test_batch_without_webhook_has_none(sdk: Valyu) -> None:
    assert sdk.batch.create().webhook_secret is None


def test_added_tasks_return_queued(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch = sdk.batch.create()
    wanted = [BatchTaskInput(id="a", query="one", metadata={"row": 1}), BatchTaskInput(query="two")]
    added = sdk.batch.add_tasks(batch.batch_id, wanted)
    assert (added.success, added.added, added.error) == (True, 2, None)
    assert [(task.task_id, task.status) for task in added.tasks] == [
        ("a", "queued"),
        (None, "queued"),
    ]
    assert (added.counts.total, added.counts.queued) == (2, 2)


def test_failed_task_completes_with_errors(sdk: Valyu) -> None:
    batch = sdk.batch.create(mode="fast", metadata={"team": "energy"})
    sdk.batch.add_tasks(batch.batch_id, [{"query": "good"}, {"query": "bad [fail]"}])
    ended = sdk.batch.status(batch.batch_id).batch
    assert ended.status == "completed_with_errors"
    assert (ended.counts.completed, ended.counts.failed, ended.cost) == (1, 1, 0.15625)
    assert ended.completed_at.endswith("Z")
    assert ended.metadata == {"team": "energy"}


def test_pages_bring_every_task_once(sdk: Valyu) -> None:
    batch, found, key = a_batch(sdk, 7), [], None
    for _ in range(4):
        page = sdk.batch.list_tasks(batch, limit=2, last_key=key, include_output=True)
        assert page.success, page.error
        assert page.pagination.count == len(page.tasks)
        found += page.tasks
        key = page.pagination.last_key
    assert (page.pagination.has_more, key) == (False, None)
    assert [task.query for task in found] == [f"q{n}" for n in range(7)]
    assert all(task.output.startswith("# q") and task.sources[0]["title"] for task in found)


def test_a_light_list_carries_no_outputs(sdk: Valyu) -> None:
    task = sdk.batch.list_tasks(a_batch(sdk)).tasks[0]
    assert (task.status, task.output, task.sources, task.cost) == ("completed", None, None, None)


def test_a_filtered_list_has_pages(sdk: Valyu) -> None:
    batch = sdk.batch.create().batch_id
    marks = ["", "[fail]", "", "[fail]", ""]
    sdk.batch.add_tasks(batch, [{"query": f"q{n} {mark}"} for n, mark in enumerate(marks)])
    first = sdk.batch.list_tasks(batch, status="failed", limit=1)
    rest = sdk.batch.list_tasks(batch, status="failed", last_key=first.pagination.last_key)
    assert [task.query for task in first.tasks + rest.tasks] == ["q1 [fail]", "q3 [fail]"]
    assert (first.pagination.has_more, rest.pagination.has_more) == (True, False)


def test_batches_are_listed_newest_first(sdk: Valyu) -> None:
    ids = [sdk.batch.create().batch_id for _ in range(3)]
    assert [batch.batch_id for batch in sdk.batch.list().batches] == ids[::-1]
    assert [batch.batch_id for batch in sdk.batch.list(limit=1).batches] == ids[2:]


def test_cancel_ends_queued_and_running(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch = a_batch(sdk)
    cancelled = sdk.batch.cancel(batch)
    assert (cancelled.status, cancelled.cancelled_count) == ("cancelled", 3)
    assert sdk.batch.status(batch).batch.counts.cancelled == 3
    assert "cancelled" in sdk.batch.cancel(batch).error


def test_waiting_sees_every_stage(sdk: Valyu, sandbox: SandboxServer) -> None:
    seen: list[str] = []

    def progress(shown: BatchStatusResponse) -> None:
        seen.append(shown.batch.status)
        sandbox.change(hold=False)

    sandbox.change(hold=True)
    ended = sdk.batch.wait_for_completion(a_batch(sdk), poll_interval=0, on_progress=progress)
    assert ended.batch.counts.completed == 3
    assert seen == ["processing", "completed"]


def test_waiting_for_a_cancelled_batch_raises(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch = a_batch(sdk)
    sdk.batch.cancel(batch)
    with pytest.raises(ValueError, match="cancelled"):
        sdk.batch.wait_for_completion(batch, poll_interval=0)


def test_create_and_run_in_one_call(sdk: Valyu) -> None:
    made = sdk.batch.create_and_run([{"query": "one"}], wait=True, poll_interval=0)
    assert (made.success, made.error) == (True, None)


@pytest.mark.parametrize("count", [0, 101])
def test_request_adds_100_tasks_at_most(sdk: Valyu, sandbox: SandboxServer, count: int) -> None:
    batch = sdk.batch.create().batch_id
    added = sdk.batch.add_tasks(batch, [{"query": "q"}] * count)
    assert not added.success
    assert sdk.batch.status(batch).batch.counts.total == 0


def test_an_unknown_batch_is_not_found(sdk: Valyu) -> None:
    assert sdk.batch.status("batch_none").error == "Batch not found"


def test_a_key_must_look_like_one(sandbox: SandboxServer) -> None:
    with Valyu(api_key="sk_other", base_url=sandbox.api_url) as stranger:
        assert stranger.batch.create().error == "Invalid API key"


def test_one_key_can_be_required(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(api_key="val_other")
    assert sdk.batch.list().error == "Invalid API key"


@pytest.mark.parametrize("url", ["http://example.com/hook", "ftp://example.com", "nonsense"])
def test_webhook_is_https_or_loopback(sdk: Valyu, url: str) -> None:
    assert "HTTPS" in sdk.batch.create(webhook_url=url).error


def test_a_batch_has_no_instant_mode(sdk: Valyu) -> None:
    assert "mode" in sdk.batch.create(mode="instant").error
