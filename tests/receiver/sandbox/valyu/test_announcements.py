"""Valyu's webhooks: their occasions and bodies, and their signatures by the official SDK."""

import json
import time

import pytest
from valyu import Valyu

from receiver.sandbox import SandboxError, SandboxServer
from receiver.sandbox.valyu.signing import sign
from tests.receiver.sandbox.conftest import Inbox, a_batch, genuine, log


def test_a_batch_is_announced_after_its_last_task(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    batch = a_batch(sdk, "one", "two [fail]", webhook_url=inbox.url)
    [delivery] = inbox.expect(1)
    assert genuine(delivery, batch.webhook_secret)
    assert json.loads(delivery.body)["status"] == "completed_with_errors"
    assert [entry["status"] for entry in log(sandbox)] == [200]
    assert abs(int(delivery.timestamp) - time.time()) < 60


def test_task_announced_under_own_secret(sdk: Valyu, inbox: Inbox) -> None:
    task = sdk.deepresearch.create(query="q", webhook_url=inbox.url)
    [delivery] = inbox.expect(1)
    assert genuine(delivery, task.webhook_secret)
    assert json.loads(delivery.body)["output"].startswith("# q")


def test_a_contents_job_is_announced_too(sdk: Valyu, inbox: Inbox) -> None:
    job = sdk.contents(["https://a.example"], async_mode=True, webhook_url=inbox.url)
    [delivery] = inbox.expect(1)
    assert genuine(delivery, job.webhook_secret)
    assert json.loads(delivery.body)["job_id"] == job.job_id


def test_webhooks_can_be_off(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(webhook=False)
    a_batch(sdk, webhook_url=inbox.url)
    assert log(sandbox) == []


def test_delivery_can_be_repeated(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    batch = a_batch(sdk, webhook_url=inbox.url)
    sandbox.deliver(batch.batch_id, times=200)
    bodies = {each.body for each in inbox.expect(201)}
    assert len(bodies) == 1


def test_delivery_may_come_too_early(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(hold=True)
    batch = a_batch(sdk, webhook_url=inbox.url)
    sandbox.deliver(batch.batch_id, status="completed")
    [delivery] = inbox.expect(1)
    assert genuine(delivery, batch.webhook_secret)
    assert json.loads(delivery.body)["status"] == "completed"
    assert sdk.batch.status(batch.batch_id).batch.status == "processing"


def test_nothing_sent_without_webhook(sdk: Valyu, sandbox: SandboxServer) -> None:
    batch = sdk.batch.create()
    with pytest.raises(SandboxError, match="without a webhook_url"):
        sandbox.deliver(batch.batch_id)


def test_the_body_can_be_wrapped(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(webhook_body="wrapped")
    batch = a_batch(sdk, webhook_url=inbox.url)
    body = json.loads(inbox.expect(1)[0].body)
    assert (body["type"], body["data"]["batch_id"]) == ("batch.completed", batch.batch_id)


def test_the_body_can_carry_the_outputs(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(webhook_body="outputs")
    a_batch(sdk, "one", "two", webhook_url=inbox.url)
    body = json.loads(inbox.expect(1)[0].body)
    assert [task["output"][:5] for task in body["tasks"]] == ["# one", "# two"]


def test_the_body_can_name_another_resource(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(webhook_body="foreign")
    batch = a_batch(sdk, webhook_url=inbox.url)
    [delivery] = inbox.expect(1)
    assert genuine(delivery, batch.webhook_secret)
    assert json.loads(delivery.body)["batch_id"] != batch.batch_id


def test_an_unreadable_body_is_signed_too(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(webhook_body="unreadable")
    batch = a_batch(sdk, webhook_url=inbox.url)
    [delivery] = inbox.expect(1)
    expected = sign(batch.webhook_secret, delivery.timestamp, delivery.body)
    assert delivery.signature == expected
    with pytest.raises(UnicodeDecodeError):
        delivery.body.decode()


@pytest.mark.parametrize(("switch", "announced"), [(False, 0), (True, 1)])
def test_a_switch_decides_webhooks_of_cancelled_batches(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox, switch: bool, announced: int
) -> None:
    sandbox.change(hold=True, webhook_on_cancel=switch)
    sdk.batch.cancel(a_batch(sdk, webhook_url=inbox.url).batch_id)
    assert len(log(sandbox)) == announced


def test_tasks_are_announced_at_their_batch_url(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(task_webhooks=True)
    batch = a_batch(sdk, "one", "two", webhook_url=inbox.url)
    came = inbox.expect(3)
    assert all(genuine(each, batch.webhook_secret) for each in came)
    assert sorted(entry["kind"] for entry in log(sandbox)) == ["batch", "task", "task"]


def test_tasks_and_jobs_announced_again(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    task = sdk.deepresearch.create(query="q", webhook_url=inbox.url)
    job = sdk.contents(["https://a.example"], async_mode=True, webhook_url=inbox.url)
    inbox.expect(2)
    sandbox.deliver(task.deepresearch_id)
    sandbox.deliver(job.job_id)
    secrets = (task.webhook_secret, job.webhook_secret)
    assert all(any(genuine(each, key) for key in secrets) for each in inbox.expect(4))


def test_senseless_deliveries_are_refused(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    with pytest.raises(SandboxError, match="not found"):
        sandbox.deliver("none")
    with pytest.raises(SandboxError, match="at least 1"):
        sandbox.deliver(a_batch(sdk, webhook_url=inbox.url).batch_id, times=0)
