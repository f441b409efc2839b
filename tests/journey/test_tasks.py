"""Single tasks and contents jobs, from the create call to the stored result, over real webhooks."""

import json
from functools import partial
from typing import Any

import pytest
from valyu import Valyu

from receiver.sandbox import SandboxServer
from tests.journey.conftest import KEY
from tests.processes import Receiver, until
from tests.receiver.cli.conftest import Run

pytestmark = pytest.mark.one_database
"""The tasks of the real client are at stake; tests/receiver/submissions has them on both."""


def events_of(run: Run, resource: str) -> list[dict[str, Any]]:
    """The events that name a resource, oldest first."""
    listed = json.loads(run("event", "list", "--json").out)
    return [event for event in reversed(listed) if resource in event["key"]]


def result_of(run: Run, run_id: str) -> Any:
    """Return the stored result of a run, without a call to the sender."""
    return json.loads(run("task", "show", run_id, "--offline", "--json").out)["result"]


def test_task_goes_from_webhook_to_store(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    run_id = run("task", "create", "valyu", "--query", "Grid", "--deliverable", "xlsx").out.strip()
    result = until(lambda: result_of(run, run_id))
    assert (result["status"], result["input"]["query"], result["version"]) == (
        "completed",
        "Grid",
        1,
    )
    (event,) = events_of(run, run_id)
    assert (event["disposition"], event["key"].split(":")[2]) == ("fetch", "completed")


def test_task_question_is_answered_and_ends(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    sender.change(webhook_on_input=True)
    reviews = ["--hitl", "plan_review", "--hitl", "outline_review"]
    run_id = run("task", "create", "valyu", "--query", "Grid", *reviews).out.strip()
    for checkpoint in ("plan_review", "outline_review"):
        until(partial(asks, run, run_id, checkpoint))
        answered = run("task", "respond", run_id, "--response", '{"approved": true}')
        assert answered.code == 0, answered.err
    assert run("task", "wait", run_id, "--fail").code == 0
    assert until(lambda: receiver.log.read_text().count("run awaits input")) >= 1


def asks(run: Run, run_id: str, checkpoint: str) -> bool:
    """Return True once this question is stored, without a call to the sender."""
    return f"awaits input ({checkpoint})" in run("task", "show", run_id, "--offline").out


def test_contents_job_of_sdk_brings_pages(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    added = json.loads(run("endpoint", "add", "valyu", "--kind", "contents", "--json").out)
    urls = ["https://a.example", "https://b.example/[fail]"]
    with Valyu(api_key=KEY, base_url=sender.api_url) as sdk:
        job = sdk.contents(urls, async_mode=True, webhook_url=added["url"])
    register = ["endpoint", "secret", added["endpoint"], "--resource", job.job_id]
    run(*register, stdin=job.webhook_secret)
    result = until(lambda: result_of(run, job.job_id))
    assert [page["status"] for page in result["output"]] == ["success", "failed"]
    assert (result["runner"], result["input"]) == ("contents", {"urls": urls})
    until(lambda: events_of(run, job.job_id))
