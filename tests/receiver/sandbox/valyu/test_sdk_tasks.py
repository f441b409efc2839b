"""The official SDK's single tasks and contents jobs against the sandbox."""

import json
from typing import Any

import httpx
import pytest
from valyu import Valyu

from receiver.sandbox import ManualClock, SandboxServer
from tests.receiver.sandbox.conftest import Inbox


def test_created_task_s_status_parses(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(images=2, messages=3)
    created = sdk.deepresearch.create(
        query="Grid storage",
        mode="max",
        output_formats=["markdown", "pdf"],
        deliverables=["a table", {"type": "csv", "description": "prices"}],
        metadata={"row": 1},
        tools={"charts": True},
    )
    assert (created.success, created.mode, created.metadata) == (True, "max", {"row": 1})
    task = sdk.deepresearch.status(created.deepresearch_id)
    assert (task.success, task.status, task.error) == (True, "completed", None)
    assert (task.title, task.output_type, task.cost) == ("Grid storage", "markdown", 15.625)
    assert (len(task.sources), len(task.images), len(task.messages)) == (2, 2, 3)
    assert [each.type for each in task.deliverables] == ["pdf", "csv"]
    assert task.pdf_url.endswith(".pdf")
    assert (task.tools.charts, task.cost_breakdown.task) == (True, 15.625)


def test_instant_task_with_old_fields(sdk: Valyu) -> None:
    created = sdk.deepresearch.create(input="Old words", model="instant", strategy="primary only")
    assert sdk.deepresearch.status(created.deepresearch_id).query == "Old words"


def test_schema_brings_fitting_json(sdk: Valyu) -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "price": {"type": "number"},
            "ok": {"type": "boolean"},
            "none": {"type": "null"},
            "kind": {"enum": ["a", "b"]},
            "names": {"type": ["array", "null"], "items": {"type": "string"}},
        },
    }
    created = sdk.deepresearch.create(query="q", output_formats=[schema])
    task = sdk.deepresearch.status(created.deepresearch_id)
    assert task.output_type == "json"
    assert list(task.output) == list(schema["properties"])
    assert [type(value) for value in task.output.values()][:3] == [int, float, bool]
    assert task.output["kind"] in ("a", "b")
    assert all(isinstance(name, str) for name in task.output["names"])


def test_toon_is_text(sdk: Valyu) -> None:
    schema = {"properties": {"a": {"type": "integer"}}}
    created = sdk.deepresearch.create(query="q", output_formats=["toon", schema])
    task = sdk.deepresearch.status(created.deepresearch_id)
    assert (task.output_type, task.output[:3]) == ("toon", "a: ")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"output_formats": ["markdown", {"type": "object"}]}, "mixed"),
        ({"output_formats": ["toon"]}, "toon needs"),
        ({"output_formats": [{}, {}]}, "only one"),
        ({"research_strategy": "s" * 15_001}, "15,000"),
        ({"urls": ["https://a.example"] * 11}, "urls"),
        ({"search": {"start_date": "2026-01-01T10:00"}}, "historical_cache"),
        ({"search": {"included_sources": ["web"], "excluded_sources": ["web"]}}, "not both"),
        ({"mode": "instant", "hitl": {"plan_review": True}}, "instant"),
        ({"hitl": {"other_review": True}}, "hitl"),
    ],
)
def test_forbidden_options_are_refused(sdk: Valyu, wrong: dict[str, object], said: str) -> None:
    assert said in sdk.deepresearch.create(query="q", **wrong).error


def test_tasks_listed_as_bare_array(sdk: Valyu) -> None:
    ids = [sdk.deepresearch.create(query=f"q{n}").deepresearch_id for n in range(3)]
    listed = sdk.deepresearch.list(limit=2)
    assert [task["deepresearch_id"] for task in listed.data] == [ids[2], ids[1]]
    assert not sdk.deepresearch.list(limit=101).success


def test_running_task_updates_and_cancels(sdk: Valyu, sandbox: SandboxServer) -> None:
    task = sdk.deepresearch.create(query="[stuck]").deepresearch_id
    assert sdk.deepresearch.update(task, "look at 2026").success
    assert sdk.deepresearch.status(task).progress.total_steps == 4
    assert sdk.deepresearch.cancel(task).deepresearch_id == task
    assert sdk.deepresearch.status(task).status == "cancelled"
    assert "cancelled" in sdk.deepresearch.update(task, "too late").error
    assert "cancelled" in sdk.deepresearch.cancel(task).error


def test_a_done_task_can_be_published_and_deleted(sdk: Valyu) -> None:
    task = sdk.deepresearch.create(query="q").deepresearch_id
    assert sdk.deepresearch.toggle_public(task, True).public
    assert sdk.deepresearch.status(task).public
    assert sdk.deepresearch.delete(task).success
    assert sdk.deepresearch.status(task).error == "Task not found"


def test_running_task_cannot_be_deleted(sdk: Valyu) -> None:
    task = sdk.deepresearch.create(query="[stuck]").deepresearch_id
    assert "running" in sdk.deepresearch.delete(task).error
    assert "awaiting" in sdk.deepresearch.respond(task, "int_1", {}).error


def test_waiting_ends_with_the_task(sdk: Valyu, sandbox: SandboxServer, clock: ManualClock) -> None:
    sandbox.change(duration=5)
    task = sdk.deepresearch.create(query="q").deepresearch_id
    seen: list[str] = []

    def progress(shown: Any) -> None:
        seen.append(shown.status)
        clock.advance(4)

    ended = sdk.deepresearch.wait(task, poll_interval=0, on_progress=progress)
    assert (ended.status, seen) == ("completed", ["queued", "running", "completed"])


def test_assets_need_the_key_or_a_token(sdk: Valyu, sandbox: SandboxServer) -> None:
    sandbox.change(images=1)
    task = sdk.deepresearch.create(query="q", deliverables=["a table"]).deepresearch_id
    shown = sdk.deepresearch.status(task)
    assert sdk.deepresearch.get_assets(task, "img_1").startswith(b"\x89PNG")
    with httpx.Client(trust_env=False) as stranger:
        for url in (shown.images[0].image_url, shown.deliverables[0].url):
            assert stranger.get(url).status_code == 200
            assert stranger.get(f"{url}0").status_code == 403
            assert stranger.get(url.partition("?")[0]).status_code == 401


def test_contents_job_reports_each_page(sdk: Valyu) -> None:
    urls = ["https://a.example", "https://b.example/[fail]"]
    job = sdk.contents(urls, async_mode=True)
    done = sdk.wait_for_contents_job(job.job_id, poll_interval=0)
    assert (done.status, done.urls_processed, done.urls_failed) == ("partial", 1, 1)
    assert [result.status for result in done.results] == ["success", "failed"]
    assert job.webhook_secret is None


def test_contents_can_be_had_at_once(sdk: Valyu) -> None:
    read = sdk.contents(["https://a.example"])
    assert (read.success, read.urls_processed, read.results[0].status) == (True, 1, "success")
    assert not sdk.contents(["https://a.example/[fail]"]).success


def test_contents_job_takes_its_time(
    sdk: Valyu, sandbox: SandboxServer, clock: ManualClock
) -> None:
    sandbox.change(duration=5)
    job = sdk.contents(["https://a.example"], async_mode=True)
    assert sdk.get_contents_job(job.job_id).results is None
    clock.advance(5)
    assert sdk.wait_for_contents_job(job.job_id, poll_interval=0).status == "completed"
    assert not sdk.get_contents_job("cj_none").success


def test_impossible_action_is_refused(sdk: Valyu, sandbox: SandboxServer) -> None:
    task = sdk.deepresearch.create(query="[stuck]").deepresearch_id
    path = f"{sandbox.api_url}/deepresearch/tasks/{task}"
    with httpx.Client(headers={"x-api-key": "val_x"}, trust_env=False) as client:
        assert client.post(f"{path}/update", json={"instruction": " "}).status_code == 400
        assert client.post(f"{path}/public", json={"public": "yes"}).status_code == 400
        assert client.get(f"{path}/assets/other").status_code == 404
        assert client.post(f"{sandbox.api_url}/contents", json={"urls": []}).status_code == 400


def test_a_task_stops_at_each_checkpoint(sdk: Valyu) -> None:
    hitl = {"plan_review": True, "outline_review": True}
    task = sdk.deepresearch.create(query="q", hitl=hitl).deepresearch_id
    for checkpoint in hitl:
        shown = sdk.deepresearch.status(task)
        assert (shown.status, shown.interaction.type) == ("awaiting_input", checkpoint)
        wrong = sdk.deepresearch.respond(task, "int_other", {"approved": True})
        assert "does not match" in wrong.error
        interaction = shown.interaction.interaction_id
        assert sdk.deepresearch.respond(task, interaction, {"approved": True}).success
    done = sdk.deepresearch.status(task)
    assert (done.status, done.interaction) == ("completed", None)
    assert [each.type for each in done.hitl_history] == list(hitl)


def test_unanswered_task_is_paused(sdk: Valyu, sandbox: SandboxServer, clock: ManualClock) -> None:
    sandbox.change(hitl_timeout=30)
    task = sdk.deepresearch.create(query="q", hitl={"plan_review": True}).deepresearch_id
    assert sdk.deepresearch.status(task).status == "awaiting_input"
    clock.advance(30)
    assert sdk.deepresearch.status(task).status == "paused"
    interaction = sdk.deepresearch.status(task).interaction.interaction_id
    assert sdk.deepresearch.respond(task, interaction, {"approved": True}).success
    assert sdk.deepresearch.status(task).status == "completed"


def test_question_announcement_is_switch(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(webhook_on_input=True)
    task = sdk.deepresearch.create(
        query="q", hitl={"plan_review": True}, webhook_url=inbox.url
    ).deepresearch_id
    (delivery,) = inbox.expect(1)
    body = json.loads(delivery.body)
    assert (body["deepresearch_id"], body["status"]) == (task, "awaiting_input")


def test_workflow_runs_by_name(sdk: Valyu) -> None:
    created = sdk.deepresearch.create(workflow_id="due-diligence")
    status = sdk.deepresearch.status(created.deepresearch_id)
    assert status.query == "Workflow due-diligence"
