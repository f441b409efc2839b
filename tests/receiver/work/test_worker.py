"""The worker on a real store: what each outcome means for the job, the source and the others."""

import json
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from receiver.providers.valyu.provider import Valyu
from receiver.sandbox import SandboxServer
from storage import Store, SubmittedRun
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.working import (
    NOT_FOUND,
    a_batch,
    a_run,
    a_source,
    announce,
    answering,
    attempts,
    in_seconds,
    job,
    jobs,
    ledger,
    make_due,
    make_old,
    run_named,
    sql,
    stored,
    tried_in_vain,
    work_off,
)

running_sender, sender = working.running_sender, working.sender


# --- outcomes -------------------------------------------------------------------------------------


async def test_announced_batch_is_fetched(store: Store, sender: SandboxServer) -> None:
    batch_id, _ = a_batch(sender, 3)
    announce(store, batch_id)
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], attempts(store)) == ("done", ["done"])
    assert ledger(store, batch_id).state == "complete"


async def test_done_but_not_ready_is_no_failure(store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    batch_id, _ = a_batch(sender, 2)
    announce(store, batch_id)
    await work_off(store, a_source(sender.api_url))
    waiting = job(store)
    assert (waiting["status"], waiting["failures"], waiting["waits"]) == ("pending", 0, 1)
    assert 4 < in_seconds(waiting) <= 10
    sender.change(hold=False)
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], attempts(store)) == ("done", ["not yet", "done"])


@pytest.mark.parametrize("where", ["header", "date", "body", "both"])
async def test_rate_limit_is_no_failure(store: Store, sender: SandboxServer, where: str) -> None:
    batch_id, _ = a_batch(sender, 1)
    fault = {"status": 429, "retry_after": 20, "retry_after_in": where}
    sender.add_fault("GET /deepresearch/batches/*", **fault)
    announce(store, batch_id)
    await work_off(store, a_source(sender.api_url))
    limited = job(store)
    assert (limited["status"], limited["failures"]) == ("pending", 0)
    assert 18 < in_seconds(limited) <= 20


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"kind": "html"}, {"kind": "reset"}, {"kind": "cut"}]
)
async def test_sender_trouble_backs_off(
    store: Store, sender: SandboxServer, fault: dict[str, Any]
) -> None:
    batch_id, _ = a_batch(sender, 1)
    sender.add_fault("GET /deepresearch/batches/*", times=2, **fault)
    announce(store, batch_id)
    for failures in (1, 2):
        await work_off(store, a_source(sender.api_url))
        make_due(store)
        if job(store)["status"] == "done":
            break  # full jitter may have let the second try follow at once
        assert job(store)["failures"] >= failures
    await work_off(store, a_source(sender.api_url))
    assert attempts(store) == ["failed", "failed", "done"]


async def test_backward_clock_does_not_delay_retry(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, ahead = store.now, [timedelta(hours=1)]

    def handler(_request: httpx.Request) -> httpx.Response:
        ahead[0] = timedelta()
        return httpx.Response(500)

    announce(store, "t1", kind="task")
    monkeypatch.setattr(store, "now", lambda: right() + ahead[0])
    async with working.working(store, a_source(), client=answering(handler)):
        await until(lambda: attempts(store))
    assert job(store)["failures"] >= 1  # the jitter may let the next attempt follow at once
    assert in_seconds(job(store)) < 60


async def test_timeout_backs_off(store: Store) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    announce(store, "batch_1")
    async with working.working(store, a_source(), client=answering(silent)):
        await until(lambda: attempts(store))
    assert (job(store)["failures"] > 0, job(store)["status"]) == (True, "pending")
    assert "ReadTimeout" in job(store)["reason"]


async def test_early_404_is_retried(store: Store) -> None:
    answers = [NOT_FOUND]
    announce(store, "t1", kind="task")
    client = answering(lambda r: answers.pop() if answers else a_run(r))
    async with working.working(store, a_source(), client=client) as worker:
        await until(lambda: attempts(store))
        make_due(store)
        worker.wake()
        await until(lambda: job(store)["status"] == "done")
    assert attempts(store) == ["failed", "done"]


async def test_late_first_attempt_has_full_quarter(
    store: Store,
) -> None:
    announce(store, "t1", kind="task")
    make_old(store, 60 * 24)
    async with working.working(store, a_source(), client=answering(lambda _: NOT_FOUND)):
        await until(lambda: attempts(store))
    assert (job(store)["status"], attempts(store)[0]) == ("pending", "failed")


async def test_a_404_after_15_minutes_is_dead(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    (dead,) = store.jobs.list_dead()
    assert (dead["subject"], dead["event_id"]) == ("t1", 1)
    assert dead["reason"] == "the sender answered 404: Task not found (given up after 15 minutes)"
    assert stored(store) == []


async def test_long_waiting_job_retries_first_404(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    sql(store, "UPDATE jobs SET missing_since = NULL, failures = 3")
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    assert store.jobs.list_dead() == []


async def test_forgotten_run_uses_embedded_result(store: Store) -> None:
    await carried(store, "t1", None, batch_id="batch_1")
    (result,) = stored(store)
    assert (result["run_id"], result["origin"], result["output"]) == ("t1", "delivery", '"x"')
    assert result["batch_id"] is None  # what a body says of its batch proves nothing
    assert (job(store)["status"], attempts(store)) == ("done", ["carried"])


async def carried(store: Store, run_id: str, endpoint_id: str | None, **more: Any) -> None:
    """A signed body tells the result of a run that the API does not know, for good."""
    body = json.dumps(run_named(run_id, **more)).encode()
    announce(store, run_id, kind="task", endpoint_id=endpoint_id, body=body)
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))


async def test_run_endpoint_embeds_and_ends_check(store: Store) -> None:
    await carried(store, "t1", store.endpoints.add("valyu", "task", resource="t1"))
    assert [result["run_id"] for result in stored(store)] == ["t1"]
    assert [each["status"] for each in jobs(store)] == ["done", "done"]


@pytest.mark.parametrize("kind", ["task", "batch"])
async def test_unbound_endpoint_embeds_nothing(store: Store, kind: str) -> None:
    store.endpoints.add("valyu", "batch", resource="batch_1")
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("somebody's", None, None)])
    await carried(store, "somebody's", store.endpoints.add("valyu", kind), batch_id="batch_1")
    assert (stored(store), len(store.jobs.list_dead())) == ([], 1)
    assert [each["resource"] for each in store.endpoints.list_all()] == [None, "batch_1"]


@pytest.mark.parametrize("bound", [True, False])
async def test_stored_result_beats_embedded_one(store: Store, bound: bool) -> None:
    announce(store, "t1", kind="task")
    await work_off(store, a_source(), client=answering(a_run))
    endpoint_id = store.endpoints.add("valyu", "task", resource="t1") if bound else None
    await carried(store, "t1", endpoint_id, output="y", completed_at="2099-01-01T00:00:00Z")
    assert [(each["output"], each["version"]) for each in stored(store)] == [('"x"', 1)]
    assert len(store.jobs.list_dead()) == 1


async def carried_at_a_batch(store: Store, run_id: str) -> None:
    """A batch of one run; another one is carried by a body that claims to be of it."""
    endpoint_id = store.endpoints.add("valyu", "batch", resource="batch_1")
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("mine", None, None)])
    await carried(store, run_id, endpoint_id, batch_id="batch_1")


async def test_batch_endpoint_embeds_known_run(store: Store) -> None:
    await carried_at_a_batch(store, "mine")
    assert [result["run_id"] for result in stored(store)] == ["mine"]


async def test_batch_endpoint_embeds_only_own_runs(
    store: Store,
) -> None:
    await carried_at_a_batch(store, "somebody's")
    assert (stored(store), len(store.jobs.list_dead())) == ([], 1)


async def test_poison_is_buried_and_others_continue(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if "poison" in request.url.path:
            return httpx.Response(400, json={"error": "cannot be shown"})
        return a_run(request)

    for name in ("a", "poison", "b"):
        announce(store, name, kind="task")
    await work_off(store, a_source(), client=answering(handler))
    assert {result["run_id"] for result in stored(store)} == {"a", "b"}
    (dead,) = store.jobs.list_dead()
    assert (dead["subject"], "cannot be shown" in dead["reason"]) == ("poison", True)


async def test_our_bug_backs_off_like_failures(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Valyu, "run", lambda *_: 1 / 0)
    announce(store, "t1", kind="task")
    async with working.working(store, a_source()):
        await until(lambda: attempts(store))
    assert (job(store)["failures"] > 0, "ZeroDivisionError" in job(store)["reason"]) == (True, True)


async def test_impossible_statement_is_counted_failure(store: Store) -> None:
    announce(store, "t1", kind="task")
    sql(store, "ALTER TABLE results RENAME TO elsewhere")
    async with working.working(store, a_source(), client=answering(a_run)):
        await until(lambda: attempts(store))
    waiting = job(store)
    assert (waiting["status"], waiting["failures"] > 0) == ("pending", True)
    assert re.search(r"no such table: results|results\" does not exist", waiting["reason"])


async def test_replayed_dead_letter_is_fetched(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    store.jobs.replay(store.jobs.list_dead()[0]["id"])
    await work_off(store, a_source(), client=answering(a_run))
    assert ([result["run_id"] for result in stored(store)], store.jobs.list_dead()) == (["t1"], [])
    assert attempts(store) == ["dead", "replayed", "done"]


async def test_replayed_dead_letter_has_full_time(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    store.jobs.replay(store.jobs.list_dead()[0]["id"])
    async with working.working(store, a_source(), client=answering(lambda _: NOT_FOUND)):
        await until(lambda: len(attempts(store)) > 2)
    assert (attempts(store)[:3], store.jobs.list_dead()) == (["dead", "replayed", "failed"], [])


async def test_foreign_task_is_buried(store: Store, sender: SandboxServer) -> None:
    mine, _ = a_batch(sender, 1)
    _, (other,) = a_batch(sender, 1)
    endpoint_id = store.endpoints.add("valyu", "batch", resource=mine)
    announce(store, other, kind="task", endpoint_id=endpoint_id)
    await work_off(store, a_source(sender.api_url))
    (dead,) = store.jobs.list_dead()
    assert dead["reason"] == f"run {other} is not of the batch of this endpoint"
    assert stored(store) == []
