"""Single runs: endpoint first, a sentence wherever it stops, and questions are reported."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from receiver.errors import NotDone, UsageError
from receiver.intake.target import ACCEPTED
from receiver.providers.capabilities.require import require_single_runs
from receiver.providers.model import Subject
from receiver.providers.valyu.provider import Valyu
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.settings import Settings, SourceSettings
from receiver.sources import Source, configured
from receiver.submissions.tasks import TaskSubmissions
from receiver.submissions.waiting import wait_for_run
from storage import EndpointListing, Store
from tests.receiver import working
from tests.receiver.conftest import DEADLINE, Taking, locked, signed, until
from tests.receiver.working import (
    a_source,
    announce,
    answering,
    ask,
    job,
    jobs,
    make_due,
    stored,
    tried_in_vain,
    work_off,
)

running_sender, sender = working.running_sender, working.sender

PUBLIC = "http://127.0.0.1:9"
CREATE = "POST /deepresearch/tasks"
TASK = "3f0c9a52-6b7e-4d18-9a41-5c2e8f7d1b60"


@asynccontextmanager
async def tasks_of(
    store: Store, source: Source, *, client: Any = None, **how: Any
) -> AsyncIterator[TaskSubmissions]:
    """The use cases on the single runs of a source."""
    async with client or clients_for() as wire:
        yield TaskSubmissions(store, Calls(source, wire), PUBLIC, **how)


async def create(store: Store, source: Source, *, client: Any = None, **options: Any) -> str:
    """Create a task as asked for; returns its id."""
    how = options.pop("how", {})
    new = require_single_runs(source.provider).new_run({"query": "q", **options})
    async with tasks_of(store, source, client=client, **how) as tasks:
        return await tasks.create(new)


async def refusal(store: Store, source: Source, **more: Any) -> str:
    """The sentence where a task cannot be created."""
    with pytest.raises(NotDone) as raised:
        await create(store, source, **more)
    assert str(raised.value).endswith(".")
    return str(raised.value)


def endpoint(store: Store) -> EndpointListing:
    """The one endpoint that there is."""
    (found,) = store.endpoints.list_all()
    return found


# --- creating -----------------------------------------------------------------------------------


async def test_task_endpoint_verifies_its_webhook(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    run_id = await create(store, a_source(sender.api_url), metadata={"team": "x"})
    made = endpoint(store)
    assert (made["kind"], made["resource"], made["state"]) == ("task", run_id, "open")
    facts, raw = store.runs.show(run_id)
    assert (facts["input"], facts["runner"]) == (
        {"query": "q", "metadata": {"team": "x"}},
        "standard",
    )
    assert (facts["status"], facts["result_status"], raw) == ("queued", None, None)
    view = store.endpoints.find(made["id"])
    assert view is not None
    async with Taking(store) as taking:
        body = json.dumps({"deepresearch_id": run_id, "status": "completed"}).encode()
        outcome = await taking.deliver(made["id"], body, signed(body, secret=view.secrets[0].text))
    assert outcome == ACCEPTED


async def test_webhook_brings_result_and_ends_check(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source)
    announce(store, run_id, kind="task", endpoint_id=endpoint(store)["id"])
    await work_off(store, source)
    assert [each["run_id"] for each in stored(store)] == [run_id]
    assert [each["status"] for each in jobs(store)] == ["done", "done"]
    assert json.loads(working.sql(store, "SELECT input FROM runs")[0]["input"]) == {"query": "q"}


async def test_task_without_webhook_found_by_check(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source)
    make_due(store)
    await work_off(store, source)
    assert [each["run_id"] for each in stored(store)] == [run_id]


@pytest.mark.parametrize(("hitl", "every"), [({}, None), ({"hitl": ["all"]}, 60.0)])
async def test_task_that_may_ask_polled_minutely(
    store: Store, sender: SandboxServer, hitl: dict[str, Any], every: float | None
) -> None:
    sender.change(hold=True)
    await create(store, a_source(sender.api_url), **hitl)
    assert json.loads(job(store)["progress"] or "null") == (every and {"every": every})
    for waits in range(3):
        make_due(store)
        await work_off(store, a_source(sender.api_url))
        assert (job(store)["status"], job(store)["waits"]) == ("pending", waits + 1)
    low, high = (50, 61) if every else (460, 481)
    assert low < working.in_seconds(job(store)) < high


async def test_a_refused_task_leaves_nothing_behind(store: Store, sender: SandboxServer) -> None:
    sender.add_fault(CREATE, status=402, error="Out of credits")
    sentence = await refusal(store, a_source(sender.api_url))
    assert sentence == "The task was not created: the sender answered 402: Out of credits."
    assert (endpoint(store)["state"], job(store)["status"]) == ("closed", "done")
    assert store.runs.list_single() == []


async def test_task_of_lost_answer_is_found(store: Store, sender: SandboxServer) -> None:
    ask(sender, "POST", "/deepresearch/tasks", {"query": "another question"})
    sender.add_fault(CREATE, kind="lost")
    source = a_source(sender.api_url)
    warnings = list[str]()
    run_id = await create(store, source, how={"warn": warnings.append})
    lost = f"The sender's answer with the signing secret of {run_id} was lost: "
    assert warnings[0].startswith(lost)
    assert len(ask(sender, "GET", "/deepresearch/list")) == 2
    assert store.submissions.list_all() == []
    make_due(store)
    await work_off(store, source)
    assert [each["run_id"] for each in stored(store)] == [run_id]


async def test_unmade_task_is_not_seen(store: Store, sender: SandboxServer) -> None:
    sender.add_fault(CREATE, kind="reset")
    source = a_source(sender.api_url)
    sentence = await refusal(store, source)
    (known,) = store.submissions.list_all()
    assert sentence.startswith("The answer to the create call was lost (")
    assert f"announced its end: resultsink task create --resume {known.id}." in sentence
    async with tasks_of(store, source, settle_seconds=0.0) as tasks:
        with pytest.raises(NotDone, match="was not created, and nothing runs: create it again"):
            await tasks.resume(known)
    assert (endpoint(store)["state"], store.submissions.list_all()) == ("closed", [])


async def test_equal_questions_leave_it_to_the_user(store: Store, sender: SandboxServer) -> None:
    ask(sender, "POST", "/deepresearch/tasks", {"query": "q"})
    sender.add_fault(CREATE, kind="lost")
    source = a_source(sender.api_url)
    await refusal(store, source)
    (known,) = store.submissions.list_all()
    async with tasks_of(store, source, settle_seconds=0.0) as tasks:
        with pytest.raises(NotDone, match="2 of the newest runs there may be the one"):
            await tasks.resume(known)
        await tasks.give_up(known)
    assert store.submissions.list_all() == []


async def test_run_of_parallel_is_found_by_our_mark(store: Store) -> None:
    made: list[Any] = []

    def lost(request: httpx.Request) -> httpx.Response:
        made.append(json.loads(request.content)["metadata"])
        return httpx.Response(502)

    source = a_source("https://sender.test", provider="parallel")
    options = {"input": "q", "runner": "core"}
    with pytest.raises(NotDone, match="so the sender may be working"):
        async with tasks_of(store, source, client=answering(lost), warn=print) as tasks:
            await tasks.create(require_single_runs(source.provider).new_run(options))
    (known,), (metadata,) = store.submissions.list_all(), made
    shown = {"run_id": "r1", "status": "completed", "metadata": metadata}
    found = source.provider.read_run({"run": shown, "output": {}}, Subject("run", "r1"))
    run = replace(found, output="x", has_output=True)
    store.runs.note("valyu", run, fetched_at=store.now())  # its webhook came
    async with tasks_of(store, source) as tasks:
        assert await tasks.resume(known) == "r1"
    (row,) = working.sql(store, "SELECT input FROM runs")
    assert (json.loads(row["input"]), store.submissions.list_all()) == ({"input": "q"}, [])


async def test_unreachable_sender_has_made_nothing(store: Store) -> None:
    sentence = await refusal(store, a_source("http://127.0.0.1:1/v1"))
    assert sentence.startswith("The task was not created: the sender could not be asked")


async def test_missing_api_key_calls_nobody(store: Store) -> None:
    with pytest.raises(UsageError, match="no api_key is set"):
        await create(store, a_source(api_key=None))


@pytest.mark.parametrize("secret", [None, "  "])
async def test_unusable_secret_is_only_a_warning(store: Store, secret: str | None) -> None:
    made = {"deepresearch_id": TASK, "status": "queued", "webhook_secret": secret}
    warnings: list[str] = []
    client = answering(lambda _: httpx.Response(200, json=made))
    how = {"warn": warnings.append}
    assert await create(store, a_source(), client=client, how=how, hitl=["all"]) == TASK
    (warning,) = warnings
    assert "found by checks, the first after a minute" in warning
    assert f"endpoint secret {endpoint(store)['id']}" in warning
    assert (endpoint(store)["state"], endpoint(store)["resource"]) == ("pending", TASK)


@pytest.mark.usefixtures("short_locks")
async def test_unstorable_task_is_named_with_advice(store: Store) -> None:
    def lock(_: httpx.Request) -> httpx.Response:
        lock_held.__enter__()
        return httpx.Response(200, json={"deepresearch_id": TASK, "webhook_secret": "s" * 64})

    lock_held = locked(store)
    how = {"store_seconds": 0.0}
    try:
        sentence = await refusal(store, a_source(), client=answering(lock), how=how)
    finally:
        lock_held.__exit__(None, None, None)
    assert sentence.startswith(f"The sender made {TASK}, but it could not be stored here")
    assert f"endpoint add valyu --kind task --resource {TASK}." in sentence
    assert "ssss" not in sentence


async def test_missing_public_url_begins_nothing(store: Store) -> None:
    source = a_source()
    async with clients_for() as wire:
        tasks = TaskSubmissions(store, Calls(source, wire), None)
        with pytest.raises(UsageError, match="public_url is missing"):
            await tasks.create(require_single_runs(source.provider).new_run({"query": "q"}))
    assert store.endpoints.list_all() == []


# --- a run of Parallel --------------------------------------------------------------------------


def parallel(sender: SandboxServer, **more: Any) -> Source:
    """The source `parallel` with the sandbox as its sender."""
    given = {"api_key": "key", "base_url": sender.url, "requests_per_second": 10_000.0, **more}
    settings = Settings(sources={"parallel": SourceSettings.model_validate(given)})
    return configured(settings)["parallel"]


async def create_run(store: Store, source: Source, **how: Any) -> str:
    new = require_single_runs(source.provider).new_run({"input": "q", "runner": "core"})
    async with tasks_of(store, source, **how) as tasks:
        return await tasks.create(new)


async def test_parallel_run_uses_account_url(store: Store, sender: SandboxServer) -> None:
    source = parallel(sender, signing_secrets=["whsec_" + "c2VjcmV0" * 6])
    run_id = await create_run(store, source)
    assert store.endpoints.list_all() == []
    assert (job(store)["kind"], job(store)["subject"]) == ("check", run_id)
    make_due(store)
    await work_off(store, source)
    facts, raw = store.runs.show(run_id)
    assert (facts["result_status"], facts["input"]) == ("completed", {"input": "q"})
    assert (facts["runner"], raw is None) == ("core", False)


async def test_parallel_run_without_account_secrets_warns(
    store: Store, sender: SandboxServer
) -> None:
    warnings: list[str] = []
    await create_run(store, parallel(sender), warn=warnings.append)
    assert "No signing_secrets are set for source parallel" in warnings[0]


async def test_running_task_uses_nonblocking_call(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    source = parallel(sender, api={"result_seconds": 1})
    run_id = await create_run(store, source, warn=lambda _: None)
    async with tasks_of(store, source) as tasks:
        assert (await tasks.look(run_id)).sender_status == "queued"
        with pytest.raises(UsageError, match="has no call for it"):
            await tasks.cancel(run_id)


# --- looking and steering -----------------------------------------------------------------------


async def test_status_look_stores_the_answer(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, deliverable=["xlsx"])
    async with tasks_of(store, source) as tasks:
        await tasks.show(run_id)
    facts, raw = store.runs.show(run_id)
    assert (facts["result_status"], facts["origin"], facts["version"]) == ("completed", "api", 1)
    assert facts["found_by"] == "hand"
    assert raw is not None
    assert [each.kind for each in Valyu().artifacts(raw)] == ["xlsx"]
    make_due(store)
    await work_off(store, source)  # the check finds it again, and nothing changes
    assert [each["version"] for each in stored(store)] == [1]


async def test_a_task_is_updated_and_cancelled(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, query="[stuck]")
    async with tasks_of(store, source, warn=pytest.fail) as tasks:
        await tasks.update(run_id, "look at 2026")
        await tasks.cancel(run_id)
        assert store.runs.show(run_id)[0]["result_status"] == "cancelled"
        with pytest.raises(NotDone, match="was not updated: the sender answered 400"):
            await tasks.update(run_id, "too late")
        with pytest.raises(NotDone, match="was not cancelled: the sender answered 400"):
            await tasks.cancel(run_id)
        with pytest.raises(UsageError, match="the instruction is empty"):
            await tasks.update(run_id, " ")


async def test_failed_look_after_a_cancel_is_a_warning(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, query="[stuck]")
    sender.add_fault("GET /deepresearch/tasks/**", status=500)
    said: list[str] = []
    async with tasks_of(store, source, warn=said.append) as tasks:
        await tasks.cancel(run_id)
    (sentence,) = said
    assert sentence.startswith(f"{run_id} could not be looked at (the sender answered 500")
    assert store.runs.show(run_id)[0]["result_status"] is None


@pytest.mark.postgres
async def test_a_task_is_cancelled_beside_a_busy_intake(
    store: Store, sender: SandboxServer
) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, query="[stuck]")
    with ExitStack() as stack:
        for _ in range(4):  # all connections that the intake has
            stack.enter_context(store.database.read(urgent=True))
        async with tasks_of(store, source, warn=pytest.fail) as tasks:
            await tasks.cancel(run_id)
    assert store.runs.show(run_id)[0]["result_status"] == "cancelled"


async def test_question_is_shown_answered_and_passed(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, hitl=["plan_review"])
    async with tasks_of(store, source) as tasks:
        shown = await tasks.show(run_id)
        assert (shown.sender_status, store.runs.list_single()[0]["result_status"]) == (
            "awaiting_input",
            None,
        )
        waits_for = store.runs.show(run_id)[0]["waits_for"]
        with pytest.raises(NotDone, match="409"):
            await tasks.respond(run_id, {"approved": True}, interaction="int_other")
        answered = await tasks.respond(run_id, {"approved": True})
        assert waits_for is not None
        assert answered == waits_for["interaction_id"]
        facts, _ = store.runs.show(run_id)
        assert (facts["result_status"], facts["waits_for"]) == ("completed", None)
        with pytest.raises(NotDone, match="it asks nothing now"):
            await tasks.respond(run_id, {"approved": True})


async def test_question_is_logged_once(
    store: Store, sender: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sender.change(hitl_timeout=0)
    source = a_source(sender.api_url)
    run_id = await create(store, source, hitl=["plan_review"])
    await until(lambda: ask_status(sender, run_id) == "paused")
    for _ in range(3):
        make_due(store)
        await work_off(store, source)
    assert (stored(store), job(store)["status"]) == ([], "pending")
    assert capsys.readouterr().out.count("run awaits input") == 1
    async with tasks_of(store, source) as tasks:
        await tasks.respond(run_id, {"approved": True})
    assert [each["status"] for each in stored(store)] == ["completed"]


def ask_status(sender: SandboxServer, run_id: str) -> str:
    status: str = ask(sender, "GET", f"/deepresearch/tasks/{run_id}/status")["status"]
    return status


async def test_announced_question_ends_its_event(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, hitl=["plan_review"])
    made = endpoint(store)["id"]
    view = store.endpoints.find(made)
    assert view is not None
    body = json.dumps({"deepresearch_id": run_id, "status": "awaiting_input"}).encode()
    async with Taking(store) as taking:
        await taking.deliver(made, body, signed(body, secret=view.secrets[0].text))
    await work_off(store, source)
    facts, _ = store.runs.show(run_id)
    assert facts["waits_for"] is not None
    assert (facts["sender_status"], facts["waits_for"]["type"]) == ("awaiting_input", "plan_review")
    assert [(each["kind"], each["status"]) for each in jobs(store)] == [
        ("check", "pending"),
        ("fetch", "done"),
    ]


async def test_waiting_reports_question_and_continues(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source, hitl=["plan_review"])
    seen: list[str | None] = []
    async with tasks_of(store, source) as tasks:
        waits = wait_for_run(
            store,
            run_id,
            source="valyu",
            tasks=tasks,
            deadline=DEADLINE,
            progressed=lambda facts: seen.append(facts["sender_status"]),
            unread=lambda error: pytest.fail(str(error)),
            failed=lambda error: pytest.fail(str(error)),
        )
        waiting = asyncio.create_task(waits)
        await until(lambda: "awaiting_input" in seen)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (seen[0], seen[-1]) == (None, "awaiting_input")
    assert store.runs.show(run_id)[0]["result_status"] is None


# --- what the sender has forgotten --------------------------------------------------------------


async def test_deleted_task_uses_embedded_result(store: Store, sender: SandboxServer) -> None:
    source = a_source(sender.api_url)
    run_id = await create(store, source)
    body = json.dumps(ask(sender, "GET", f"/deepresearch/tasks/{run_id}/status")).encode()
    ask(sender, "DELETE", f"/deepresearch/tasks/{run_id}/delete")
    made = endpoint(store)["id"]
    view = store.endpoints.find(made)
    assert view is not None
    async with Taking(store) as taking:
        await taking.deliver(made, body, signed(body, secret=view.secrets[0].text))
    await work_off(store, source)
    assert stored(store) == []  # a 404 may be too early: a quarter of an hour is waited
    tried_in_vain(store, 16)
    make_due(store)
    await work_off(store, source)
    facts, raw = store.runs.show(run_id)
    assert (facts["result_status"], facts["origin"]) == ("completed", "delivery")
    assert raw == json.loads(body)
    assert [each["status"] for each in jobs(store)] == ["done", "done"]
