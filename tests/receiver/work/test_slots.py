"""Slots, stops, leases and pauses: which jobs a worker takes, and what it gives back."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from receiver.errors import Forbidden, Refused
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.work import lease_keeper, slots
from receiver.work.fetch import REFUSALS, Fetch
from storage import LEASE_SECONDS, RENEW_SECONDS, CannotStore, Lease, Store
from tests.receiver import working
from tests.receiver.conftest import DEADLINE, stuck, until
from tests.receiver.parallel_senders import (
    BATCH,
    GROUP,
    TASK,
    BatchSender,
    announce_run,
    parallel,
    parallel_v0,
)
from tests.receiver.working import (
    NOT_FOUND,
    a_batch,
    a_run,
    a_source,
    announce,
    answering,
    attempts,
    batch_of_one,
    claim,
    in_seconds,
    job,
    jobs,
    ledger,
    make_due,
    run_named,
    sql,
    stored,
    tried_in_vain,
    work_off,
)

running_sender, sender = working.running_sender, working.sender

# --- a paused source ------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "calls"), [(401, 1), (402, 1), (403, 2)])
async def test_refused_account_pauses_without_attempts(
    store: Store, sender: SandboxServer, status: int, calls: int
) -> None:
    batch_id, _ = a_batch(sender, 1)
    how = {"status": status, "error": "No, because.", "times": calls}
    sender.add_fault("GET /deepresearch/batches**", **how)
    announce(store, batch_id)
    await work_off(store, a_source(sender.api_url))
    (paused,) = store.sources.list_paused()
    assert paused["paused_reason"] == f"the sender answered {status}: No, because."
    assert (job(store)["status"], job(store)["failures"]) == ("pending", 0)
    assert attempts(store) == ["paused"]


async def test_resource_403_is_buried_alone(store: Store, sender: SandboxServer) -> None:
    (mine, _), (other, _) = a_batch(sender, 1), a_batch(sender, 1)
    sender.add_fault(f"GET /deepresearch/batches/{other}", status=403, error="Not yours.")
    for batch_id in (other, mine):
        announce(store, batch_id)
    await work_off(store, a_source(sender.api_url, concurrency=1))
    (dead,) = store.jobs.list_dead()
    assert dead["reason"] == "this alone is refused: the sender answered 403: Not yours."
    assert (dead["subject"], store.sources.list_paused()) == (other, [])
    assert ledger(store, mine).state == "complete"


def v0_runs(store: Store, *run_ids: str) -> None:
    """Runs that are announced alone, below the task that v0's addresses need."""
    for run_id in run_ids:
        endpoint_id = store.endpoints.add("valyu", "run", resource=run_id, task_id=TASK)
        announce(store, run_id, kind="run", endpoint_id=endpoint_id)


async def test_run_403_proven_by_other_answer(store: Store) -> None:
    v0_runs(store, "mine", "other")
    sender = BatchSender({"other": "complete"})
    refused = httpx.Response(403, json={"detail": "Not yours."})
    async with answering(lambda r: refused if r.url.path.endswith("mine") else sender(r)) as wire:
        fetching = Fetch(store, Calls(parallel_v0(), wire))
        leases = {lease.subject: lease for lease in store.jobs.claim("valyu", limit=2)}
        with pytest.raises(Forbidden):
            await fetching.attempt(leases["mine"])
        assert await fetching.attempt(leases["other"]) == "run completed"
        with pytest.raises(Refused, match="this alone is refused: the sender answered 403: Not"):
            await fetching.attempt(leases["mine"])


async def test_v0_source_continues_after_refused_run(store: Store) -> None:
    v0_runs(store, "mine", "other")
    sender = BatchSender({"other": "complete"})
    refused = httpx.Response(403, json={"detail": "Not yours."})

    def handler(request: httpx.Request) -> httpx.Response:
        return refused if request.url.path.endswith("mine") else sender(request)

    source = parallel_v0(concurrency=1)
    async with working.working(store, source, client=answering(handler)) as worker:
        await until(store.sources.list_paused)
        sql(store, "UPDATE source_state SET probe_at = '2000-01-01'")
        worker.wake()
        await until(store.jobs.list_dead)
    (dead,) = store.jobs.list_dead()
    assert (dead["subject"], store.sources.list_paused()) == ("mine", [])
    assert dead["reason"] == "this alone is refused: the sender answered 403: Not yours."
    assert [result["run_id"] for result in stored(store)] == ["other"]


async def test_unexplained_403_becomes_run_s_own(store: Store) -> None:
    v0_runs(store, "mine")
    refused = httpx.Response(403, json={"detail": "Not yours."})
    for refusals in range(REFUSALS):
        assert attempts(store) == ["paused"] * refusals
        sql(store, "UPDATE jobs SET next_attempt_at = '2999-01-01' WHERE kind = 'check'")
        sql(store, "UPDATE jobs SET next_attempt_at = '2000-01-01' WHERE kind != 'check'")
        sql(store, "UPDATE source_state SET probe_at = '2000-01-01'")
        await work_off(store, parallel_v0(), client=answering(lambda _: refused))
    (dead,) = store.jobs.list_dead()
    assert dead["subject"] == "mine"


async def test_refused_v0_batch_run_pauses_nobody(store: Store) -> None:
    sender = BatchSender({"r1": "complete", "r2": "failed"})
    store.batches.register("valyu", BATCH, endpoint_id=None, task_id=TASK)
    refused = httpx.Response(403, json={"detail": "Not yours."})
    client = answering(lambda r: refused if r.url.path.endswith("/r2") else sender(r))
    make_due(store)
    await work_off(store, parallel_v0(), client=client)
    assert (store.sources.list_paused(), attempts(store)) == ([], ["not yet"])
    assert [result["run_id"] for result in stored(store)] == ["r1"]


async def test_job_without_call_resumes_nothing(store: Store) -> None:
    refused = answering(lambda _: httpx.Response(401, json={"error": "Invalid API key"}))
    store.batches.check("valyu", GROUP)
    await work_off(store, parallel(), client=refused)
    announce_run(store, "r1")
    make_due(store)
    sql(store, "UPDATE jobs SET next_attempt_at = '2999-01-01' WHERE kind = 'check'")
    await work_off(store, parallel(), client=answering(lambda _: httpx.Response(500)))
    assert attempts(store) == ["paused", "not yet"]
    assert len(store.sources.list_paused()) == 1


async def test_simultaneous_refusals_pause_a_minute(store: Store) -> None:
    latch = Latch(httpx.Response(401, json={"error": "Invalid API key"}))
    for number in range(8):
        announce(store, f"t{number}", kind="task")
    async with working.working(store, a_source(concurrency=8), client=answering(latch)):
        await until(lambda: latch.waiting == 8)
        latch.open()
        await until(lambda: len(attempts(store)) == 8)
    (state,) = sql(store, "SELECT probe_at AS next_attempt_at FROM source_state")
    assert 50 < in_seconds(state) <= 60


async def test_paused_jobs_do_not_age(store: Store) -> None:
    answers = [httpx.Response(401, json={})]
    announce(store, "t1", kind="task")
    tried_in_vain(store, 16)
    client = answering(lambda _: answers.pop() if answers else NOT_FOUND)
    async with working.working(store, a_source(), client=client) as worker:
        await until(store.sources.list_paused)
        make_due(store)
        worker.wake()
        await until(lambda: len(attempts(store)) > 1)
    assert attempts(store)[:2] == ["paused", "failed"]


async def test_paused_source_resumes_by_probe(store: Store, sender: SandboxServer) -> None:
    batches = [a_batch(sender, 1)[0] for _ in range(3)]
    sender.add_fault("GET /deepresearch/batches/*", status=401)
    announce(store, batches[0])
    async with working.working(store, a_source(sender.api_url)) as worker:
        await until(store.sources.list_paused)
        announce(store, batches[1])
        announce(store, batches[2])
        assert store.jobs.claim("valyu", limit=9) == []
        make_due(store)
        worker.wake()
        await until(lambda: len(stored(store)) == 3)
    assert store.sources.list_paused() == []
    assert {each["failures"] for each in jobs(store)} == {0}


async def test_start_probes_paused_source(store: Store, sender: SandboxServer) -> None:
    announce(store, a_batch(sender, 1)[0])
    await work_off(store, a_source(sender.api_url, api_key="wrong"))
    assert len(store.sources.list_paused()) == 1
    async with working.working(store, a_source(sender.api_url)):
        await until(lambda: stored(store))
        await until(lambda: job(store)["status"] == "done")
    assert store.sources.list_paused() == []


async def test_paused_source_has_one_probe(store: Store) -> None:
    paths: list[str] = []

    async def refuse(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        await asyncio.sleep(0.2)
        return httpx.Response(401, json={"error": "Invalid API key"})

    source = a_source(concurrency=1)
    announce(store, "t0", kind="task")
    await work_off(store, source, client=answering(refuse))
    for number in range(1, 6):
        announce(store, f"t{number}", kind="task")
    paths.clear()
    async with working.working(store, a_source(), client=answering(refuse)):
        await until(lambda: attempts(store).count("paused") >= 2)
    assert len(paths) == 1


# --- slots, stops and leases ----------------------------------------------------------------------


class Latch:
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


async def test_claims_fill_only_free_slots(store: Store) -> None:
    latch = Latch()
    for number in range(7):
        announce(store, f"t{number}", kind="task")
    async with working.working(store, a_source(concurrency=3), client=answering(latch)) as worker:
        await until(lambda: latch.waiting == 3)
        worker.wake()
        await asyncio.sleep(0.1)  # no fourth one may come in this time
        assert (len(jobs(store, status="running")), latch.waiting) == (3, 3)
        latch.open()
        await until(lambda: len(stored(store)) == 7)
    assert latch.most == 3


async def test_polite_stop_returns_jobs_untried(
    store: Store,
) -> None:
    latch = Latch()
    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(latch)):
        await until(lambda: latch.waiting == 1)
        assert job(store)["claims"] == 1
    given_back = job(store)
    assert (given_back["status"], given_back["claims"]) == ("pending", 0)
    assert (given_back["lease_token"], attempts(store)) == (None, [])


async def test_polite_stop_returns_jobs_being_claimed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    claim = store.jobs.claim

    def noticed(*given: Any, **more: Any) -> list[Lease]:
        begun.append(True)
        return claim(*given, **more)

    monkeypatch.setattr(store.jobs, "claim", noticed)
    monkeypatch.setattr(slots, "POLL_SECONDS", DEADLINE)
    async with AsyncExitStack() as stack:
        work = working.working(store, a_source(), client=answering(a_run))
        worker = await stack.enter_async_context(work)
        await until(lambda: begun)  # it finds nothing, and rests
        announce(store, "t1", kind="task")
        with stuck(store):
            begun.clear()
            worker.wake()
            await until(lambda: begun)  # and waits for the writer
            stopping = asyncio.create_task(stack.aclose())
            await asyncio.sleep(0.1)
            assert not stopping.done()
        await stopping
    store.probe()  # comes after whatever was queued
    assert (job(store)["status"], job(store)["claims"]) == ("pending", 0)


@pytest.mark.parametrize("error", [CannotStore("down"), ValueError("a bug")])
async def test_polite_stop_ignores_failing_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    latch, has_failed = Latch(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/tasks"):
            return batch_of_one(request, {"total": 9, "completed": 9})
        if "last_key" in request.url.params:
            return await latch(request)
        more = {"last_key": "2", "has_more": True}
        return httpx.Response(200, json={"tasks": [run_named("t1")], "pagination": more})

    def fail(*_args: Any, **_more: Any) -> None:
        loop.call_soon_threadsafe(has_failed.set)
        raise error

    monkeypatch.setattr(store.results, "store_rows", fail)
    announce(store, "batch_1")
    async with (
        asyncio.timeout(DEADLINE),  # it would be for ever
        working.working(store, a_source(), client=answering(handler)),
    ):
        await until(lambda: latch.waiting == 1 and has_failed.is_set())
        if isinstance(error, CannotStore):
            monkeypatch.setattr(store.jobs, "give_back", fail)
    assert attempts(store) == []
    assert job(store)["failures"] == 0


async def test_start_continues_leftover_jobs(store: Store) -> None:
    announce(store, "t1", kind="task")
    claim(store)
    if store.is_shared:  # then it may be alive until its lease runs out
        working.died(store)
    await work_off(store, a_source(), client=answering(a_run))
    assert (job(store)["status"], len(stored(store))) == ("done", 1)


async def test_lost_lease_records_nothing(
    store: Store,
) -> None:
    latch = Latch()
    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(latch)) as worker:
        await until(lambda: latch.waiting == 1)
        working.taken_over(store)
        worker.wake()
        await until(lambda: latch.waiting == 2)  # claimed anew
        latch.open()
        await until(lambda: job(store)["status"] == "done")
        await until(lambda: latch.waiting == 0)
    assert (attempts(store), len(stored(store))) == (["done"], 1)


async def test_reclaimed_job_survives_loser_s_end(
    store: Store,
) -> None:
    latches = [Latch(), Latch()]
    left = list(latches)

    async def handler(request: httpx.Request) -> httpx.Response:
        return await left.pop(0)(request)

    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(handler)) as worker:
        await until(lambda: latches[0].waiting == 1)
        working.taken_over(store)
        worker.wake()
        await until(lambda: latches[1].waiting == 1)
        latches[0].open()
        await until(lambda: latches[0].waiting == 0)
        await asyncio.sleep(0.1)  # the loser records that it lost
    assert job(store)["status"] == "pending"  # given back, for it was known to be held


def test_lease_survives_one_failed_renewal() -> None:
    """A renewal is late by a look at most, and so is the one who notices that there is none."""
    assert 2 * (RENEW_SECONDS + lease_keeper.LOOK_SECONDS) < LEASE_SECONDS
    assert LEASE_SECONDS + lease_keeper.LOOK_SECONDS <= 15


async def test_renewing_outlives_whatever_breaks_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RENEW_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(lease_keeper, name, 0.01)
    looks: list[int] = []

    def leases() -> list[Lease]:
        looks.append(len(looks))
        raise ZeroDivisionError

    renewing = lease_keeper.LeaseKeeper(store, leases, released=lambda: None)
    await until(lambda: len(looks) > 2)
    renewing.stop()


@pytest.mark.parametrize("released", [0, 1])
async def test_released_jobs_wake_their_finder(
    store: Store, monkeypatch: pytest.MonkeyPatch, released: int
) -> None:
    looks, wakes = list[int](), list[int]()

    def release() -> int:
        looks.append(released)
        return released

    for name in ("RENEW_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(lease_keeper, name, 0.01)
    monkeypatch.setattr(store.jobs, "release_expired", release)
    renewing = lease_keeper.LeaseKeeper(store, list, released=lambda: wakes.append(1))
    await until(lambda: len(looks) > 2)
    renewing.stop()
    assert bool(wakes) is bool(released)


async def test_busy_intake_delays_new_jobs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "BEHIND_ACKS_SECONDS", 60)
    announce(store, "t1", kind="task")
    busy, looks = [True], list[int]()

    def gives_way() -> bool:
        looks.append(len(looks))
        return busy[0]

    async with working.working(store, a_source(), client=answering(a_run), gives_way=gives_way):
        await until(lambda: len(looks) > 3)
        assert job(store)["status"] == "pending"
        busy[0] = False
        await until(lambda: job(store)["status"] == "done")


async def test_long_busy_intake_does_not_starve(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "BEHIND_ACKS_SECONDS", 0.1)
    announce(store, "t1", kind="task")
    async with working.working(store, a_source(), client=answering(a_run), gives_way=lambda: True):
        await until(lambda: job(store)["status"] == "done")
