"""Contents jobs, made with the official SDK at our URL: webhook, fetch, result, and no loss."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from valyu import Valyu

from receiver.intake.target import ACCEPTED, SECRET_PENDING
from receiver.sandbox import SandboxServer
from storage import Store
from tests.receiver import working
from tests.receiver.cli import conftest as commands
from tests.receiver.conftest import Taking, signed
from tests.receiver.working import (
    a_source,
    ask,
    jobs,
    make_due,
    stored,
    tried_in_vain,
    work_off,
)

running_sender, sender = working.running_sender, working.sender
run, configure, configured = commands.run, commands.configure, commands.configured

GOOD, BAD = "https://a.example/page", "https://b.example/[fail]"


class Job:
    """A contents job that the SDK made with an endpoint of ours as its webhook."""

    def __init__(self, store: Store, sender: SandboxServer, *urls: str) -> None:
        self.sender, self.store = sender, store
        self.endpoint = store.endpoints.add("valyu", "contents")
        with Valyu(api_key="val_test", base_url=sender.api_url) as sdk:
            made = sdk.contents(
                list(urls),
                async_mode=True,
                webhook_url=f"http://127.0.0.1:9/webhooks/valyu/{self.endpoint}",
            )
        self.id, self.secret = made.job_id, made.webhook_secret

    def register(self) -> None:
        """Give us its secret, as the program that made it does."""
        self.store.endpoints.set_secret(self.endpoint, self.secret, resource=self.id)

    async def announce(self, **changes: Any) -> Any:
        """Deliver its webhook, signed as the sender signs it; returns the response."""
        shown = {**ask(self.sender, "GET", f"/contents/jobs/{self.id}"), **changes}
        body = json.dumps(shown).encode()
        async with Taking(self.store) as taking:
            return await taking.deliver(self.endpoint, body, signed(body, secret=self.secret))


@pytest.mark.parametrize(
    ("urls", "ours", "theirs", "outcomes"),
    [
        ([GOOD], "completed", "completed", ["success"]),
        ([GOOD, BAD], "completed", "partial", ["success", "failed"]),
        ([BAD], "failed", "failed", ["failed"]),
    ],
)
async def test_contents_job_is_announced_fetched_and_stored(
    store: Store,
    sender: SandboxServer,
    urls: list[str],
    ours: str,
    theirs: str,
    outcomes: list[str],
) -> None:
    job = Job(store, sender, *urls)
    assert await job.announce() == SECRET_PENDING  # so the sender tries again
    job.register()
    assert await job.announce() == ACCEPTED
    await work_off(store, a_source(sender.api_url))
    (result,) = stored(store)
    assert (result["run_id"], result["status"], result["origin"]) == (job.id, ours, "api")
    assert [each["status"] for each in json.loads(result["output"])] == outcomes
    facts, raw = store.runs.show(job.id)
    assert (facts["sender_status"], facts["runner"], facts["input"]) == (
        theirs,
        "contents",
        {"urls": urls},
    )
    assert raw is not None
    assert [each["status"] for each in jobs(store)] == ["done", "done"]


async def test_check_finds_a_job_without_webhook(store: Store, sender: SandboxServer) -> None:
    job = Job(store, sender, GOOD)
    job.register()
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert [each["run_id"] for each in stored(store)] == [job.id]


async def test_unfinished_job_is_fetched_again(store: Store, sender: SandboxServer) -> None:
    sender.change(duration=60)
    job = Job(store, sender, GOOD)
    job.register()
    await job.announce(status="completed")  # the webhook is ahead of the API
    await work_off(store, a_source(sender.api_url))
    assert (stored(store), jobs(store, kind="fetch")[0]["status"]) == ([], "pending")
    facts, _ = store.runs.show(job.id)
    assert (facts["sender_status"], facts["completed_at"]) == ("processing", None)


async def test_expired_job_is_stored_from_its_signed_body(
    store: Store, sender: SandboxServer
) -> None:
    job = Job(store, sender, GOOD, BAD)
    job.register()
    await job.announce()
    sender.add_fault("GET /contents/jobs/*", status=404, error="Job not found", times=None)
    source = a_source(sender.api_url)
    await work_off(store, source)
    assert stored(store) == []  # a 404 may be too early
    tried_in_vain(store, 16)
    make_due(store)
    await work_off(store, source)
    (result,) = stored(store)
    assert (result["status"], result["origin"]) == ("completed", "delivery")
    assert [each["url"] for each in json.loads(result["output"])] == [GOOD, BAD]
    assert [each["status"] for each in jobs(store)] == ["done", "done"]


async def test_one_job_s_secret_announces_no_other(store: Store, sender: SandboxServer) -> None:
    job = Job(store, sender, GOOD)
    job.register()
    assert await job.announce(job_id="cj_somebody") == ACCEPTED
    await work_off(store, a_source(sender.api_url))
    assert stored(store) == []
    (dead,) = store.jobs.list_dead()
    assert "it names contents cj_somebody" in dead["reason"]


def test_job_is_shown_like_a_task(
    store: Store, sender: SandboxServer, run: Any, configured: Callable[..., None]
) -> None:
    configured(sources__valyu__base_url=sender.api_url)
    job = Job(store, sender, GOOD, BAD)
    job.register()
    shown = run("task", "show", job.id)
    assert (shown.code, shown.err) == (0, "")
    assert "completed, version 1: 1 of 2 URLs read" in shown.out
    assert httpx.URL(GOOD).host in run("task", "show", job.id, "--json").out
