"""Batches whose runs call back one by one: an endpoint for each run before the one call."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from receiver.errors import NotDone, UsageError
from receiver.providers.model import Plan
from receiver.providers.parallel_v0.provider import ParallelV0
from receiver.sender_api.calls import Calls
from receiver.signatures.schemes import bearer_token
from receiver.submissions.batches import BatchSubmissions, NewBatch
from storage import FetchedRun, Store, now
from tests.receiver import working
from tests.receiver.conftest import locked
from tests.receiver.parallel_senders import BATCH, TASK, BatchSender, parallel_v0
from tests.receiver.working import answering, claim, ledger, make_due, sql

PUBLIC = "https://receiver.test"
PLAN = Plan(name="n", runner="neon", task_id=TASK)


class Creating:
    """A sender that makes tasks and batches; `run_ids` replaces one for each task."""

    def __init__(self, run_ids: Sequence[str] | None = None, **failing: httpx.Response) -> None:
        self.run_ids = run_ids
        self.failing = failing
        self.bodies: list[Any] = []
        self.at_work = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        self.at_work.set()
        await self.go_on.wait()
        what = "task" if request.url.path == "/v0/tasks" else "batch"
        if what in self.failing:
            return self.failing[what]
        if what == "task":
            return httpx.Response(200, json={"task_id": TASK})
        requested = self.bodies[-1]["task_run_requests"]
        ids = [f"r{n}" for n in range(len(requested))] if self.run_ids is None else self.run_ids
        answer = {"task_id": TASK, "batch_run_id": BATCH, "run_ids": list(ids)}
        return httpx.Response(200, json=answer)


async def submit(
    store: Store, sender: Creating, count: int = 2, *, plan: Plan = PLAN, **how: Any
) -> list[Any]:
    """Create a batch; returns what was reported on the way."""
    reported: list[Any] = []
    source = parallel_v0()
    tasks = [ParallelV0().new_task({"q": str(number)}) for number in range(count)]
    async with answering(sender) as wire:
        how = {"warn": reported.append, **how}
        batches = BatchSubmissions(store, Calls(source, wire), how.pop("url", PUBLIC), **how)
        await batches.create(NewBatch(plan, tasks), created=reported.append, added=reported.append)
    return reported


def states(store: Store) -> list[str]:
    return [endpoint["state"] for endpoint in store.endpoints.list_all()]


async def test_each_run_has_endpoint_before_call(
    store: Store,
) -> None:
    sender = Creating()
    sender.go_on.clear()
    creating = asyncio.create_task(submit(store, sender))
    await sender.at_work.wait()
    for requested in (one["callback_webhook"] for one in sender.bodies[0]["task_run_requests"]):
        view = store.endpoints.find(requested["url"].removeprefix(f"{PUBLIC}/webhooks/valyu/"))
        assert view is not None
        assert (view.kind, view.state, view.resource, view.task_id) == ("run", "open", None, TASK)
        assert [secret.text for secret in view.secrets] == [requested["secret"]]
        assert requested["headers"] == {
            "Authorization": f"Bearer {bearer_token(requested['secret'])}"
        }
    sender.go_on.set()
    assert await creating == [BATCH, 2]


async def test_runs_bound_in_order_with_inputs(
    store: Store,
) -> None:
    sender = Creating()
    await submit(store, sender, 3)
    for number, requested in enumerate(sender.bodies[0]["task_run_requests"]):
        view = store.endpoints.find(requested["callback_webhook"]["url"].rpartition("/")[2])
        assert view is not None
        assert (view.resource, view.task_id) == (f"r{number}", TASK)
    inputs = sql(store, "SELECT run_id, input, task_id FROM runs ORDER BY run_id")
    assert [json.loads(row["input"]) for row in inputs] == [{"q": "0"}, {"q": "1"}, {"q": "2"}]
    known = ledger(store, BATCH)
    assert (known.expected, known.state, known.task_id) == (3, "open", TASK)


async def test_early_callback_keeps_its_binding(store: Store) -> None:
    sender = Creating(["r1", "r0"])  # in another order than that of the request
    sender.go_on.clear()
    creating = asyncio.create_task(submit(store, sender))
    await sender.at_work.wait()
    first, _ = sender.bodies[0]["task_run_requests"]
    early = first["callback_webhook"]["url"].rpartition("/")[2]
    store.endpoints.bind(early, "r0")
    sender.go_on.set()
    assert await creating == [BATCH, 2]
    view = store.endpoints.find(early)
    assert view is not None
    assert (view.resource, ledger(store, BATCH).expected) == ("r0", 2)


async def test_sender_s_inputs_beat_answer_order(
    store: Store,
) -> None:
    await submit(store, Creating(["1", "0"]))
    make_due(store)
    sender = BatchSender({"0": "complete", "1": "complete"})
    await working.work_off(store, parallel_v0(), client=answering(sender))
    rows = sql(store, "SELECT run_id, input FROM runs ORDER BY run_id")
    assert [json.loads(row["input"]) for row in rows] == [{"q": "0"}, {"q": "1"}]
    assert ledger(store, BATCH).state == "complete"


async def test_batch_is_watched_not_each_run(store: Store) -> None:
    await submit(store, Creating(), 3)
    check = working.job(store)
    assert (check["kind"], check["subject_kind"], check["subject"]) == ("check", "batch", BATCH)
    make_due(store)
    assert claim(store).subject == BATCH


async def test_prompt_creates_the_stored_task_first(store: Store) -> None:
    sender = Creating()
    await submit(store, sender, plan=Plan(runner="neon", prompt="of ${q}"))
    assert [list(body)[-1] for body in sender.bodies] == ["processor", "runner"]
    assert ledger(store, BATCH).task_id == TASK


async def test_indistinguishable_runs_get_no_endpoint(store: Store) -> None:
    reported = await submit(store, Creating(["r1"]), 2)
    assert reported[0].startswith(f"The sender named 1 runs for 2 tasks of {BATCH}")
    assert [row["input"] for row in sql(store, "SELECT input FROM runs")] == [None]
    assert [endpoint["resource"] for endpoint in store.endpoints.list_all()] == [None, None]
    assert ledger(store, BATCH).expected == 2


async def test_runs_of_several_transactions_are_all_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.submissions.per_run_callbacks.AT_ONCE", 10)
    assert await submit(store, Creating(), 25) == [BATCH, 25]
    assert (ledger(store, BATCH).expected, len(store.endpoints.list_all())) == (25, 25)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_refusal_closes_the_endpoints_again(store: Store, status: int) -> None:
    refused = httpx.Response(status, json={"detail": "No"})
    with pytest.raises(NotDone, match=rf"^The batch was not created: .* {status}: No\.$"):
        await submit(store, Creating(batch=refused))
    assert (states(store), store.batches.list_newest()) == (["closed"] * 2, [])


async def test_lost_answer_keeps_endpoints_open(store: Store) -> None:
    with pytest.raises(
        NotDone,
        match=r"was lost .*see `event list`.* then this finds it: resultsink",
    ):
        await submit(store, Creating(batch=httpx.Response(502)))
    assert states(store) == ["open"] * 2


async def test_refused_stored_task_leaves_nothing(store: Store) -> None:
    refused = httpx.Response(422, json={"detail": "No"})
    with pytest.raises(NotDone, match=r"task was not created, and nothing was run: .* No\.$"):
        await submit(store, Creating(task=refused), plan=Plan(runner="neon", prompt="p"))
    assert states(store) == []


@pytest.mark.parametrize(
    ("plan", "url", "sentence"),
    [
        (Plan(runner="neon"), PUBLIC, "name the stored task with --task"),
        (PLAN, None, "RESULTSINK_PUBLIC_URL"),
    ],
)
async def test_impossible_plan_stops_before_creation(
    store: Store, plan: Plan, url: str | None, sentence: str
) -> None:
    sender = Creating()
    with pytest.raises(UsageError, match=sentence):
        await submit(store, sender, plan=plan, url=url)
    assert (sender.bodies, states(store)) == ([], [])


@pytest.mark.usefixtures("short_locks")
async def test_unstorable_batch_is_named_with_advice(store: Store) -> None:
    sender = Creating()
    sender.go_on.clear()
    creating = asyncio.create_task(submit(store, sender, store_seconds=0.0))
    await sender.at_work.wait()
    with locked(store):
        sender.go_on.set()
        with pytest.raises(NotDone) as raised:
            await creating
    assert f"made {BATCH} of task {TASK}, but it could not be stored here" in str(raised.value)
    assert "Do not create it again" in str(raised.value)
    assert f"--kind batch --resource {BATCH} --task {TASK}, then" in str(raised.value)


async def test_fixed_batch_refuses_additions_and_cancel(store: Store) -> None:
    await submit(store, Creating())
    source = parallel_v0()
    async with answering(Creating()) as wire:
        batches = BatchSubmissions(store, Calls(source, wire), PUBLIC)
        with pytest.raises(UsageError, match="are made together with it"):
            await batches.add(BATCH, [ParallelV0().new_task({"q": 1})], added=print)
        with pytest.raises(UsageError, match="has no call for it"):
            await batches.cancel(BATCH)


async def test_callback_before_answer_keeps_result(
    store: Store,
) -> None:
    working.announce(store, "r0", kind="run")
    result = FetchedRun("r0", "completed", "complete", {}, output={"a": 1})
    store.results.store(claim(store), [result], fetched_at=now(), progress={})
    await submit(store, Creating(), 1)
    assert (ledger(store, BATCH).stored, ledger(store, BATCH).expected) == (1, 1)
