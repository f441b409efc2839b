"""The worker on a real store: what each outcome means for the job, the source and the others."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from receiver import worker
from receiver.providers.valyu import Valyu
from receiver.sandbox import SandboxServer
from storage import Lease, Store, SubmittedRun
from tests.receiver import working
from tests.receiver.conftest import stuck, until
from tests.receiver.working import (
    a_batch,
    a_source,
    announce,
    answering,
    ask,
    claim,
    job,
    jobs,
    ledger,
    make_due,
    make_old,
    sql,
    stored,
    tried_in_vain,
    work_off,
)

running_sender, sender = working.running_sender, working.sender

MONTH = 31 * 24 * 60.0
NOT_FOUND = httpx.Response(404, json={"error": "Task not found"})


def attempts(store: Store) -> list[str]:
    """How the attempts ended, oldest first."""
    return [row["outcome"] for row in sql(store, "SELECT outcome FROM attempts ORDER BY id")]


def in_seconds(job: dict[str, Any]) -> float:
    """How long a job still waits."""
    due = datetime.fromisoformat(job["next_attempt_at"]).replace(tzinfo=UTC)
    return (due - datetime.now(UTC)).total_seconds()


def run_named(run_id: str, **more: Any) -> dict[str, Any]:
    return {"deepresearch_id": run_id, "status": "completed", "output": "x", **more}


def a_run(request: httpx.Request, **more: Any) -> httpx.Response:
    """The completed run that a request asks for."""
    return httpx.Response(200, json=run_named(request.url.path.split("/")[-2], **more))


# --- outcomes -------------------------------------------------------------------------------------


async def test_an_announced_batch_is_brought_in_and_its_job_is_done(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, 3)
    announce(store, batch_id)
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], attempts(store)) == ("done", ["done"])
    assert ledger(store, batch_id).state == "complete"


async def test_done_says_the_webhook_not_yet_says_the_api_and_that_is_no_failure(
    store: Store, sender: SandboxServer
) -> None:
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
async def test_a_429_is_no_failure_and_the_sender_says_when(
    store: Store, sender: SandboxServer, where: str
) -> None:
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
async def test_a_sender_in_trouble_is_a_failure_that_is_backed_off_from(
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


async def test_a_timeout_is_a_failure_that_is_backed_off_from(store: Store) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    announce(store, "batch_1")
    async with working.working(store, a_source(), client=answering(silent)):
        await until(lambda: attempts(store))
    assert (job(store)["failures"] > 0, job(store)["status"]) == (True, "pending")
    assert "ReadTimeout" in job(store)["reason"]


async def test_a_404_soon_after_the_event_is_tried_again(store: Store) -> None:
    answers = [NOT_FOUND]
    announce(store, "t1", kind="task")
    client = answering(lambda r: answers.pop() if answers else a_run(r))
    async with working.working(store, a_source(), client=client):
        await until(lambda: job(store)["status"] == "done")
    assert attempts(store) == ["failed", "done"]


async def test_a_job_that_is_first_tried_late_has_its_quarter_of_an_hour_all_the_same(
    store: Store,
) -> None:
    announce(store, "t1", kind="task")
    make_old(store, 60 * 24)
    async with working.working(store, a_source(), client=answering(lambda _: NOT_FOUND)):
        await until(lambda: attempts(store))
    assert (job(store)["status"], attempts(store)[0]) == ("pending", "failed")


async def test_a_404_after_a_quarter_of_an_hour_is_a_dead_letter(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    (dead,) = store.list_dead()
    assert (dead["subject"], dead["event_id"]) == ("t1", 1)
    assert dead["reason"] == "the sender answered 404: Task not found (given up after 15 minutes)"
    assert stored(store) == []


async def test_a_job_that_waited_long_still_tries_its_first_404_again(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    sql(store, "UPDATE jobs SET missing_since = NULL, failures = 3")
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    assert store.list_dead() == []


async def test_a_forgotten_run_is_taken_from_the_signed_body_that_carried_it(store: Store) -> None:
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


async def test_a_run_s_own_endpoint_carries_it_and_waits_no_longer(store: Store) -> None:
    await carried(store, "t1", store.add_endpoint("valyu", "task", resource="t1"))
    assert [result["run_id"] for result in stored(store)] == ["t1"]
    assert [each["status"] for each in jobs(store)] == ["done", "done"]


@pytest.mark.parametrize("kind", ["task", "batch"])
async def test_an_endpoint_that_is_not_bound_carries_nobody_s_run(store: Store, kind: str) -> None:
    store.add_endpoint("valyu", "batch", resource="batch_1")
    store.add_runs("valyu", "batch_1", [SubmittedRun("somebody's", None, None)])
    await carried(store, "somebody's", store.add_endpoint("valyu", kind), batch_id="batch_1")
    assert (stored(store), len(store.list_dead())) == ([], 1)
    assert [each["resource"] for each in store.list_endpoints()] == [None, "batch_1"]


@pytest.mark.parametrize("bound", [True, False])
async def test_a_result_that_is_stored_is_not_replaced_by_what_a_body_carried(
    store: Store, bound: bool
) -> None:
    announce(store, "t1", kind="task")
    await work_off(store, a_source(), client=answering(a_run))
    endpoint_id = store.add_endpoint("valyu", "task", resource="t1") if bound else None
    await carried(store, "t1", endpoint_id, output="y", completed_at="2099-01-01T00:00:00Z")
    assert [(each["output"], each["version"]) for each in stored(store)] == [('"x"', 1)]
    assert len(store.list_dead()) == 1


async def carried_at_a_batch(store: Store, run_id: str) -> None:
    """A batch of one run; another one is carried by a body that claims to be of it."""
    endpoint_id = store.add_endpoint("valyu", "batch", resource="batch_1")
    store.add_runs("valyu", "batch_1", [SubmittedRun("mine", None, None)])
    await carried(store, run_id, endpoint_id, batch_id="batch_1")


async def test_a_batch_s_endpoint_carries_a_forgotten_run_that_we_know_of(store: Store) -> None:
    await carried_at_a_batch(store, "mine")
    assert [result["run_id"] for result in stored(store)] == ["mine"]


async def test_a_batch_s_endpoint_carries_no_run_but_its_own_whatever_the_body_says(
    store: Store,
) -> None:
    await carried_at_a_batch(store, "somebody's")
    assert (stored(store), len(store.list_dead())) == ([], 1)


async def test_poison_ends_as_a_dead_letter_and_the_others_go_on(store: Store) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if "poison" in request.url.path:
            return httpx.Response(400, json={"error": "cannot be shown"})
        return a_run(request)

    for name in ("a", "poison", "b"):
        announce(store, name, kind="task")
    await work_off(store, a_source(), client=answering(handler))
    assert {result["run_id"] for result in stored(store)} == {"a", "b"}
    (dead,) = store.list_dead()
    assert (dead["subject"], "cannot be shown" in dead["reason"]) == ("poison", True)


async def test_an_answer_that_breaks_our_own_code_is_backed_off_from_like_any_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Valyu, "run", lambda *_: 1 / 0)
    announce(store, "t1", kind="task")
    async with working.working(store, a_source()):
        await until(lambda: attempts(store))
    assert (job(store)["failures"] > 0, "ZeroDivisionError" in job(store)["reason"]) == (True, True)


async def test_a_statement_of_ours_that_cannot_be_is_a_counted_failure_too(store: Store) -> None:
    announce(store, "t-1", kind="task")
    sql(store, "ALTER TABLE results RENAME TO elsewhere")
    ended = {"deepresearch_id": "t-1", "status": "completed", "output": "x"}
    await work_off(
        store, a_source(), client=answering(lambda request: httpx.Response(200, json=ended))
    )
    waiting = job(store)
    assert (waiting["status"], waiting["failures"]) == ("pending", 1)
    assert "no such table: results" in waiting["reason"]


async def test_a_replayed_dead_letter_is_worked_again_from_our_store(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    store.replay(store.list_dead()[0]["id"])
    await work_off(store, a_source(), client=answering(a_run))
    assert ([result["run_id"] for result in stored(store)], store.list_dead()) == (["t1"], [])
    assert attempts(store) == ["dead", "replayed", "done"]


async def test_a_replayed_dead_letter_is_tried_for_as_long_as_a_new_one(store: Store) -> None:
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    store.replay(store.list_dead()[0]["id"])
    async with working.working(store, a_source(), client=answering(lambda _: NOT_FOUND)):
        await until(lambda: len(attempts(store)) > 2)
    assert (attempts(store)[:3], store.list_dead()) == (["dead", "replayed", "failed"], [])


async def test_a_task_of_another_batch_is_buried(store: Store, sender: SandboxServer) -> None:
    mine, _ = a_batch(sender, 1)
    _, (other,) = a_batch(sender, 1)
    endpoint_id = store.add_endpoint("valyu", "batch", resource=mine)
    announce(store, other, kind="task", endpoint_id=endpoint_id)
    await work_off(store, a_source(sender.api_url))
    (dead,) = store.list_dead()
    assert dead["reason"] == f"run {other} is not of the batch of this endpoint"
    assert stored(store) == []


# --- a paused source ------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "calls"), [(401, 1), (402, 1), (403, 2)])
async def test_a_refused_account_pauses_the_source_says_why_and_burns_no_attempt(
    store: Store, sender: SandboxServer, status: int, calls: int
) -> None:
    batch_id, _ = a_batch(sender, 1)
    how = {"status": status, "error": "No, because.", "times": calls}
    sender.add_fault("GET /deepresearch/batches**", **how)
    announce(store, batch_id)
    await work_off(store, a_source(sender.api_url))
    (paused,) = store.paused_sources()
    assert paused["paused_reason"] == f"the sender answered {status}: No, because."
    assert (job(store)["status"], job(store)["failures"]) == ("pending", 0)
    assert attempts(store) == ["paused"]


async def test_a_403_for_one_resource_alone_buries_it_and_the_others_go_on(
    store: Store, sender: SandboxServer
) -> None:
    (mine, _), (other, _) = a_batch(sender, 1), a_batch(sender, 1)
    sender.add_fault(f"GET /deepresearch/batches/{other}", status=403, error="Not yours.")
    for batch_id in (other, mine):
        announce(store, batch_id)
    await work_off(store, a_source(sender.api_url, concurrency=1))
    (dead,) = store.list_dead()
    assert dead["reason"] == "this alone is refused: the sender answered 403: Not yours."
    assert (dead["subject"], store.paused_sources()) == (other, [])
    assert ledger(store, mine).state == "complete"


async def test_jobs_refused_together_pause_their_source_for_a_minute(store: Store) -> None:
    door = Door(httpx.Response(401, json={"error": "Invalid API key"}))
    for number in range(8):
        announce(store, f"t{number}", kind="task")
    async with working.working(store, a_source(concurrency=8), client=answering(door)):
        await until(lambda: door.waiting == 8)
        door.open()
        await until(lambda: len(attempts(store)) == 8)
    (state,) = sql(store, "SELECT probe_at AS next_attempt_at FROM source_state")
    assert 50 < in_seconds(state) <= 60


async def test_while_its_source_is_paused_no_job_comes_nearer_to_its_end(store: Store) -> None:
    answers = [httpx.Response(401, json={})]
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    client = answering(lambda _: answers.pop() if answers else NOT_FOUND)
    async with working.working(store, a_source(), client=client) as worker:
        await until(store.paused_sources)
        make_due(store)
        worker.wake()
        await until(lambda: len(attempts(store)) > 1)
    assert attempts(store)[:2] == ["paused", "failed"]


async def test_a_paused_source_is_left_alone_until_its_probe_which_resumes_it(
    store: Store, sender: SandboxServer
) -> None:
    batches = [a_batch(sender, 1)[0] for _ in range(3)]
    sender.add_fault("GET /deepresearch/batches/*", status=401)
    announce(store, batches[0])
    async with working.working(store, a_source(sender.api_url)) as worker:
        await until(store.paused_sources)
        announce(store, batches[1])
        announce(store, batches[2])
        worker.wake()
        await asyncio.sleep(0.3)  # nothing must happen in this time
        assert stored(store) == []
        make_due(store)
        worker.wake()
        await until(lambda: len(stored(store)) == 3)
    assert store.paused_sources() == []
    assert {each["failures"] for each in jobs(store)} == {0}


async def test_a_start_probes_a_paused_source_at_once(store: Store, sender: SandboxServer) -> None:
    announce(store, a_batch(sender, 1)[0])
    await work_off(store, a_source(sender.api_url, api_key="wrong"))
    assert len(store.paused_sources()) == 1
    async with working.working(store, a_source(sender.api_url)):
        await until(lambda: stored(store))
        await until(lambda: job(store)["status"] == "done")
    assert store.paused_sources() == []


async def test_a_paused_source_is_probed_by_one_job_and_not_by_all_slots(store: Store) -> None:
    asked: list[str] = []

    async def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        await asyncio.sleep(0.2)
        return httpx.Response(401, json={"error": "Invalid API key"})

    source = a_source(concurrency=1)
    announce(store, "t0", kind="task")
    await work_off(store, source, client=answering(refuse))
    for number in range(1, 6):
        announce(store, f"t{number}", kind="task")
    asked.clear()
    async with working.working(store, a_source(), client=answering(refuse)):
        await until(lambda: attempts(store).count("paused") >= 2)
    assert len(asked) == 1


# --- slots, stops and leases ----------------------------------------------------------------------


class Door:
    """A sender whose answers wait until it is opened; it counts who waits."""

    def __init__(self, answer: httpx.Response | None = None) -> None:
        self.answer = answer
        self.waiting = 0
        self.most = 0
        self._opened = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self._opened.wait()
        await asyncio.sleep(0.01)
        self.waiting -= 1
        return self.answer or a_run(request)

    def open(self) -> None:
        self._opened.set()


async def test_no_more_jobs_are_claimed_than_there_are_free_slots(store: Store) -> None:
    door = Door()
    for number in range(7):
        announce(store, f"t{number}", kind="task")
    async with working.working(store, a_source(concurrency=3), client=answering(door)) as worker:
        await until(lambda: door.waiting == 3)
        worker.wake()
        await asyncio.sleep(0.1)  # no fourth one may come in this time
        assert (len(jobs(store, status="running")), door.waiting) == (3, 3)
        door.open()
        await until(lambda: len(stored(store)) == 7)
    assert door.most == 3


async def test_a_polite_stop_gives_back_what_is_not_finished_as_if_never_tried(
    store: Store,
) -> None:
    door = Door()
    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(door)):
        await until(lambda: door.waiting == 1)
        assert job(store)["claims"] == 1
    given_back = job(store)
    assert (given_back["status"], given_back["claims"]) == ("pending", 0)
    assert (given_back["lease_token"], attempts(store)) == (None, [])


async def test_a_polite_stop_gives_back_also_what_is_just_being_claimed(store: Store) -> None:
    async with AsyncExitStack() as stack:
        work = working.working(store, a_source(), client=answering(a_run))
        worker = await stack.enter_async_context(work)
        await asyncio.sleep(0.1)  # it has found nothing, and rests
        announce(store, "t1", kind="task")
        with stuck(store):
            worker.wake()
            await asyncio.sleep(0.1)  # the claim waits for the writer
            stopping = asyncio.create_task(stack.aclose())
            await asyncio.sleep(0.1)
        await stopping
    store.probe()  # comes after whatever was queued
    assert (job(store)["status"], job(store)["claims"]) == ("pending", 0)


async def test_a_start_goes_on_with_what_an_earlier_process_left_behind(store: Store) -> None:
    announce(store, "t1", kind="task")
    claim(store)
    await work_off(store, a_source(), client=answering(a_run))
    assert (job(store)["status"], len(stored(store))) == ("done", 1)


async def test_who_lost_his_lease_records_nothing_and_the_other_does_the_work(
    store: Store,
) -> None:
    door = Door()
    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(door)):
        await until(lambda: door.waiting == 1)
        store.release_expired(all_of_them=True)
        await until(lambda: door.waiting == 2)  # claimed anew
        door.open()
        await until(lambda: job(store)["status"] == "done")
        await until(lambda: door.waiting == 0)
    assert (attempts(store), len(stored(store))) == (["done"], 1)


async def test_a_job_claimed_anew_is_still_ours_when_the_loser_of_its_lease_ends(
    store: Store,
) -> None:
    doors = [Door(), Door()]
    left = list(doors)

    async def handler(request: httpx.Request) -> httpx.Response:
        return await left.pop(0)(request)

    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(handler)):
        await until(lambda: doors[0].waiting == 1)
        store.release_expired(all_of_them=True)
        await until(lambda: doors[1].waiting == 1)
        doors[0].open()
        await until(lambda: doors[0].waiting == 0)
        await asyncio.sleep(0.1)  # the loser records that it lost
    assert job(store)["status"] == "pending"  # given back, for it was known to be held


# --- checks ---------------------------------------------------------------------------------------


async def test_a_batch_whose_webhook_never_came_is_found_by_its_check(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, ["a", "b [stuck]"])
    store.add_endpoint("valyu", "batch", resource=batch_id)
    assert in_seconds(job(store)) > 500
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    again = job(store)
    assert (again["status"], again["failures"], len(stored(store))) == ("pending", 0, 1)
    assert 550 < in_seconds(again) <= 600
    (stuck_task,) = (run["run_id"] for run in store.unstored_runs("valyu", batch_id))
    ask(sender, "POST", f"/deepresearch/tasks/{stuck_task}/cancel", {})
    make_due(store)
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], ledger(store, batch_id).state) == ("done", "complete")


async def test_a_check_of_a_batch_that_we_made_needs_no_list_and_can_be_replayed(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, 3)  # it names no URL of ours
    endpoint_id = store.add_endpoint("valyu", "batch")
    store.register_batch("valyu", batch_id, endpoint_id=endpoint_id, secret=None)
    make_due(store)
    tried_in_vain(store, MONTH)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    (dead,) = store.list_dead()
    assert dead["subject"] == batch_id
    store.replay(dead["id"])
    await work_off(store, a_source(sender.api_url))
    assert (job(store)["status"], ledger(store, batch_id).state) == ("done", "complete")


async def test_a_check_learns_the_task_that_comes_with_its_secret_and_can_be_replayed(
    store: Store,
) -> None:
    endpoint_id = store.add_endpoint("valyu", "task")
    store.set_secret(endpoint_id, "s" * 43, resource="t1")
    make_due(store)
    tried_in_vain(store, MONTH)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    store.replay(store.list_dead()[0]["id"])
    await work_off(store, a_source(), client=answering(a_run))
    assert [result["run_id"] for result in stored(store)] == ["t1"]
    assert job(store)["status"] == "done"


async def test_a_check_waits_longer_each_time_that_there_is_nothing_yet(store: Store) -> None:
    store.add_endpoint("valyu", "batch", resource="batch_1")
    for least in (590, 1190, 2390):
        make_due(store)
        await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
        assert least < in_seconds(job(store)) <= least + 10
    assert job(store)["failures"] == 0


async def test_a_check_that_got_no_answer_asks_again_soon_and_outlives_the_trouble(
    store: Store,
) -> None:
    store.add_endpoint("valyu", "batch", resource="batch_1")
    make_due(store)
    in_trouble = answering(lambda _: httpx.Response(500))
    async with working.working(store, a_source(), client=in_trouble):
        await until(lambda: attempts(store))
    assert in_seconds(job(store)) <= 2 * 2 ** (len(attempts(store)) - 1)
    tried_in_vain(store, 8 * 24 * 60)  # when a fetch would have been given up
    make_due(store)
    await work_off(store, a_source(), client=answering(lambda _: httpx.Response(500)))
    assert job(store)["status"] == "pending"
    assert 590 < in_seconds(job(store)) <= 6 * 60 * 60


async def test_the_month_of_a_check_begins_with_its_first_try_in_vain(store: Store) -> None:
    store.add_endpoint("valyu", "batch", resource="batch_1")
    make_due(store)
    make_old(store, MONTH)  # its source was paused all the time
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    assert job(store)["status"] == "pending"


async def test_a_check_gives_up_after_a_month_and_says_so(store: Store) -> None:
    store.add_endpoint("valyu", "batch", resource="batch_1")
    make_due(store)
    tried_in_vain(store, MONTH)
    await work_off(store, a_source(), client=answering(lambda _: NOT_FOUND))
    assert "given up after 30 days" in store.list_dead()[0]["reason"]


async def test_a_fetch_that_completes_a_batch_ends_the_check(
    store: Store, sender: SandboxServer
) -> None:
    batch_id, _ = a_batch(sender, 1)
    endpoint_id = store.add_endpoint("valyu", "batch", resource=batch_id)
    announce(store, batch_id, endpoint_id=endpoint_id)
    await work_off(store, a_source(sender.api_url))
    assert job(store, kind="check")["status"] == "done"


async def test_renewing_outlives_whatever_breaks_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RENEW_SECONDS", 0.01)
    looks: list[int] = []

    def leases() -> list[Lease]:
        looks.append(len(looks))
        raise ZeroDivisionError

    renewing = worker._Renewing(store, leases)
    await until(lambda: len(looks) > 2)
    renewing.stop()
