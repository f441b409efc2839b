"""Runs that are announced one by one and brought in together, and what a run needs on its own."""

import json
from datetime import timedelta

import httpx
import pytest

from receiver.errors import NotReady
from receiver.intake.verification import verify_delivery
from receiver.sender_api.calls import Calls
from receiver.signatures.keys import prepare
from receiver.work.fetch import Fetch
from receiver.work.fetch.runs import LISTED_FIRST
from storage import FetchedRun, Store, SubmittedRun
from tests import behind
from tests.databases import url_of
from tests.receiver.conftest import until
from tests.receiver.parallel_senders import (
    BATCH,
    GROUP,
    TASK,
    BatchSender,
    GroupSender,
    announce_run,
    parallel,
    parallel_v0,
)
from tests.receiver.working import (
    a_source,
    announce,
    answering,
    fetch,
    in_seconds,
    job,
    jobs,
    ledger,
    make_due,
    sql,
    stored,
    tried_in_vain,
    work_off,
    working,
)

THE_GROUP, ITS_RUNS = f"/groups/{GROUP}", f"/groups/{GROUP}/runs"


async def work(store: Store, sender: GroupSender | BatchSender, rounds: int = 1) -> None:
    """Work off what is due so many times, letting the time pass between them."""
    source = parallel() if isinstance(sender, GroupSender) else parallel_v0()
    for _ in range(rounds):
        make_due(store)
        await work_off(store, source, client=answering(sender))


def outcomes(store: Store) -> list[str]:
    """The log of the runs whose results are here, one line for each of their jobs."""
    rows = sql(store, "SELECT detail FROM attempts WHERE outcome = 'done' ORDER BY job_id")
    return [row["detail"] for row in rows]


# --- events of a group --------------------------------------------------------------------------


async def test_event_satisfied_by_group_listing(
    store: Store,
) -> None:
    sender = GroupSender({"r1": "completed", "r2": "failed", "r3": "completed"})
    for run_id, status in sender.runs.items():
        announce_run(store, run_id, status)
    await work(store, sender, rounds=3)
    assert set(sender.calls) == {THE_GROUP, ITS_RUNS}
    assert {result["run_id"] for result in stored(store)} == set(sender.runs)
    assert {result["found_by"] for result in stored(store)} == {"webhook"}  # by a hurried check
    assert {each["status"] for each in jobs(store)} == {"done"}
    assert outcomes(store).count("run completed, stored before") == 2
    assert ledger(store, GROUP).state == "complete"


async def test_events_that_come_together_make_one_listing(store: Store) -> None:
    sender = GroupSender({f"r{number}": "completed" for number in range(30)})
    for run_id in sender.runs:
        announce_run(store, run_id)
    await work(store, sender, rounds=3)
    assert sender.calls == [THE_GROUP, ITS_RUNS]
    assert len(stored(store)) == 30


async def test_events_of_a_group_update_its_check_once(store: Store) -> None:
    behind.count_updates(url_of(store), "jobs", when="new.kind = 'check'")
    for number in range(100):
        announce_run(store, f"r{number}")
    leases = store.jobs.claim("valyu", limit=100)
    async with answering(GroupSender({})) as wire:
        fetching = Fetch(store, Calls(parallel(), wire))
        for lease in leases:
            with pytest.raises(NotReady, match="listed first"):
                await fetching.attempt(lease)
    assert (len(leases), len(jobs(store, kind="check"))) == (100, 1)
    assert len(sql(store, "SELECT * FROM updates_of_jobs")) == 1


@pytest.mark.parametrize("created", ["now", "2020-01-01"])
async def test_news_hurries_a_late_check(store: Store, created: str) -> None:
    store.batches.register("valyu", GROUP, endpoint_id=None)
    if created != "now":
        sql(store, "UPDATE batches SET created_at = ?", created)
    assert in_seconds(job(store)) > 100
    announce_run(store, "r1")
    await work_off(store, parallel(), client=answering(GroupSender({"r1": "completed"})))
    assert in_seconds(job(store, kind="check")) <= 30


async def test_news_gathers_before_listing(
    store: Store,
) -> None:
    announce_run(store, "r1")
    await work_off(store, parallel(), client=answering(GroupSender({"r1": "completed"})))
    check = job(store, kind="check")
    assert check["subject"] == GROUP
    assert check["next_attempt_at"] > check["created_at"]


async def test_unlistable_group_asks_each_run(store: Store) -> None:
    broken = httpx.Response(500)
    sender = GroupSender({"r1": "completed"}, lambda r: broken if "/groups" in str(r.url) else None)
    announce_run(store, "r1")
    await work(store, sender, rounds=LISTED_FIRST)
    assert stored(store) == []
    await work(store, sender)
    assert [result["run_id"] for result in stored(store)] == ["r1"]
    assert [path for path in sender.calls if "/groups" not in path] == [
        "/runs/r1/result",
        "/runs/r1/input",
    ]


async def test_running_run_makes_no_listing(store: Store) -> None:
    sender = GroupSender({"r1": "running"})
    store.batches.register("valyu", GROUP, endpoint_id=None)
    announce_run(store, "r1", "running")
    await work_off(store, parallel(), client=answering(sender))
    assert THE_GROUP not in sender.calls
    assert job(store, kind="fetch")["status"] == "done"


async def test_group_named_by_api_is_watched(store: Store) -> None:
    sender = GroupSender({"r1": "completed", "other": "completed"})
    announce_run(store, "r1", group=None)
    announce_run(store, "other", group=None)
    await work(store, sender, rounds=2)
    check = job(store, kind="check")
    assert (check["subject_kind"], check["subject"], check["status"]) == ("batch", GROUP, "done")
    assert ledger(store, GROUP).state == "complete"


async def test_old_result_does_not_satisfy_event(store: Store) -> None:
    sender = GroupSender({"r1": "failed"})
    announce_run(store, "r1", "failed", group=None)
    await work(store, sender)
    sender.runs["r1"] = "completed"
    announce(store, "r1", kind="run", body=b"2", hints={"batch": None, "status": "completed"})
    await work(store, sender, rounds=LISTED_FIRST + 2)
    assert [result["status"] for result in stored(store)] == ["completed"]


async def test_status_map_end_is_no_result(
    store: Store,
) -> None:
    sender = BatchSender({"r1": "failed"})
    a_v0_batch(store)
    await work(store, sender)
    store.runs.note(
        "valyu",
        FetchedRun("r1", "completed", "complete", {}, batch_id=BATCH, is_whole=False),
        fetched_at=store.now(),
    )
    sender.runs["r1"] = "complete"
    announce(store, "r1", kind="run", hints={"status": "complete"})
    await work(store, sender, rounds=LISTED_FIRST + 2)
    assert [result["status"] for result in stored(store)] == ["completed"]


async def test_same_event_other_body_is_fetched(
    store: Store,
) -> None:
    sender = GroupSender({"r1": "completed"})
    hints = {"batch": GROUP, "status": "completed"}
    announce(store, "r1", kind="run", key="k", hints=hints)
    await work(store, sender, rounds=3)
    assert ledger(store, GROUP).state == "complete"
    output = {"type": "text", "content": "corrected"}
    corrected = httpx.Response(200, json={"run": sender.run("r1"), "output": output})
    sender.first = lambda r: corrected if r.url.path.endswith("/result") else None
    sender.calls.clear()
    for body in (b"2", b"2", b"2"):
        announce(store, "r1", kind="run", key="k", body=body, hints=hints)
    await work(store, sender, rounds=2)
    assert sender.calls == ["/runs/r1/result"]
    assert [result["output"] for result in stored(store)] == ['"corrected"']


# --- a run of its own ---------------------------------------------------------------------------


async def test_announced_failure_asks_no_result(store: Store) -> None:
    sender = GroupSender({"r1": "failed"})
    announce_run(store, "r1", "failed", group=None)
    assert await fetch(store, parallel(), client=answering(sender)) == "run failed"
    assert sender.calls == ["/runs/r1", "/runs/r1/input"]
    assert (stored(store)[0]["status"], stored(store)[0]["error"]) == ("failed", "went wrong")


async def test_result_404_explained_by_run(store: Store) -> None:
    sender = GroupSender({"r1": "failed"})
    announce_run(store, "r1", group=None)
    assert await fetch(store, parallel(), client=answering(sender)) == "run failed"
    assert sender.calls == ["/runs/r1/result", "/runs/r1", "/runs/r1/input"]


async def test_result_timeout_is_no_failure(store: Store) -> None:
    sender = GroupSender({"r1": "running"})
    announce_run(store, "r1", group=None)
    await work_off(store, parallel(), client=answering(sender))
    waiting = job(store)
    assert (waiting["status"], waiting["failures"], waiting["waits"]) == ("pending", 0, 1)
    assert sender.calls == ["/runs/r1/result"]


async def test_unknown_input_is_asked_once(
    store: Store,
) -> None:
    sender = GroupSender({"mine": "completed", "other": "completed"}, group_id=None)
    store.runs.note_input("valyu", "mine", {"q": "as I sent it"})
    for number, run_id in enumerate(("mine", "other", "other")):
        announce(store, run_id, kind="run", body=b"%d" % number, hints={"status": "completed"})
        await work(store, sender)
    assert [path for path in sender.calls if path.endswith("/input")] == ["/runs/other/input"]
    inputs = {row["run_id"]: row["input"] for row in sql(store, "SELECT * FROM runs")}
    assert {run_id: json.loads(body) for run_id, body in inputs.items()} == {
        "mine": {"q": "as I sent it"},
        "other": {"q": "other"},
    }


@pytest.mark.parametrize(("status", "done"), [(404, True), (422, True), (500, False)])
async def test_missing_input_keeps_result(store: Store, status: int, done: bool) -> None:
    refused = httpx.Response(status, json={"error": {"message": "no"}})
    sender = GroupSender(
        {"r1": "completed"},
        lambda r: refused if r.url.path.endswith("/input") else None,
        group_id=None,
    )
    announce_run(store, "r1", group=None)
    async with working(store, parallel(), client=answering(sender)):
        await until(lambda: sql(store, "SELECT * FROM attempts"))
    assert [result["run_id"] for result in stored(store)] == ["r1"]
    assert (job(store)["status"] == "done") is done


# --- v0 -----------------------------------------------------------------------------------------


def a_v0_batch(store: Store) -> None:
    """A batch that we know of, with its stored task."""
    store.batches.register("valyu", BATCH, endpoint_id=None, task_id=TASK)


@pytest.mark.parametrize("knows_runs", [True, False])
async def test_status_map_failures_are_results(store: Store, knows_runs: bool) -> None:
    sender = BatchSender({"r1": "complete", "r2": "failed"}, knows_runs=knows_runs)
    a_v0_batch(store)
    await work(store, sender)
    ended = {result["run_id"]: (result["status"], result["error"]) for result in stored(store)}
    error = "went wrong" if knows_runs else None
    assert ended == {"r1": ("completed", None), "r2": ("failed", error)}
    assert (ledger(store, BATCH).state, ledger(store, BATCH).failed) == ("complete", 1)
    assert sender.calls == [f"/batches/{BATCH}", f"/batches/{BATCH}/export", "/runs/r2"]


async def test_mapped_completion_needs_output(
    store: Store,
) -> None:
    sender = BatchSender({"r1": "complete", "r2": "running", "r3": "cancelling"})
    sender.run = lambda run_id: {"run_id": "another"}  # type: ignore[method-assign]
    a_v0_batch(store)
    await work(store, sender)
    assert stored(store) == []
    statuses = sql(store, "SELECT run_id, status, sender_status FROM runs ORDER BY run_id")
    known = [tuple(row.values()) for row in statuses if row["run_id"] != "another"]
    assert known == [
        ("r1", "completed", "complete"),
        ("r2", "running", "running"),
        ("r3", "running", "cancelling"),
    ]


async def test_export_waits_until_worthwhile(store: Store) -> None:
    sender = BatchSender({f"r{number:02}": "running" for number in range(8)})
    a_v0_batch(store)
    exports = []
    for number in range(8):
        sender.runs[f"r{number:02}"] = "complete"
        sender.calls.clear()
        await work(store, sender)
        exports += [number + 1] * sum(path.endswith("/export") for path in sender.calls)
    assert exports == [1, 2, 4, 8]
    assert (ledger(store, BATCH).state, len(stored(store))) == ("complete", 8)


async def test_v0_run_without_task_says_so(store: Store) -> None:
    announce(store, "r1", kind="run")
    await work_off(store, parallel_v0(), client=answering(BatchSender({})))
    assert "endpoint add --task" in job(store)["reason"]


async def test_v0_run_uses_endpoint_s_task(store: Store) -> None:
    sender = BatchSender({"r1": "complete"})
    endpoint_id = store.endpoints.add("valyu", "run", resource="r1", task_id=TASK)
    announce(store, "r1", kind="run", endpoint_id=endpoint_id)
    assert await fetch(store, parallel_v0(), client=answering(sender)) == "run completed"
    assert sender.calls == ["/runs/r1"]


# --- what the sender has forgotten --------------------------------------------------------------


async def test_gone_410_uses_embedded_result(store: Store) -> None:
    run = {"deepresearch_id": "t1", "status": "completed", "output": "x"}
    announce(store, "t1", kind="task", body=json.dumps(run).encode())
    tried_in_vain(store, 16)
    gone = httpx.Response(410, json={"error": "expired"})
    await work_off(store, a_source(), client=answering(lambda _: gone))
    (result,) = stored(store)
    assert (result["run_id"], result["origin"], result["output"]) == ("t1", "delivery", '"x"')


async def test_forgotten_parallel_failure_uses_event(store: Store) -> None:
    data = {"run_id": "r1", "status": "failed", "error": {"message": "because"}}
    body = json.dumps({"type": "task_run.status", "data": data}).encode()
    announce(store, "r1", kind="run", body=body, hints={"status": "failed", "batch": None})
    tried_in_vain(store, 16)
    await work_off(store, parallel(), client=answering(GroupSender({})))
    (result,) = stored(store)
    assert (result["status"], result["error"], result["origin"]) == (
        "failed",
        "because",
        "delivery",
    )


async def test_submitted_run_keeps_its_batch(
    store: Store,
) -> None:
    store.batches.register("valyu", GROUP, endpoint_id=None)
    store.batches.add_runs("valyu", GROUP, [SubmittedRun("r1", None, {"q": 1})])
    announce_run(store, "r1", group=None)
    sql(store, "UPDATE jobs SET next_attempt_at = '2999-01-01' WHERE kind = 'check'")
    with pytest.raises(NotReady, match=f"{GROUP} is listed first"):
        await fetch(store, parallel(), client=answering(GroupSender({"r1": "completed"})))


# --- a body that nobody signed ------------------------------------------------------------------


async def test_unsigned_body_names_no_batch(store: Store) -> None:
    source, secret = parallel_v0(), "s" * 64
    store.batches.register("valyu", BATCH, endpoint_id=None, task_id=TASK)
    store.batches.add_runs("valyu", BATCH, [SubmittedRun("v1", TASK, {"q": 1})])
    endpoint_id = store.endpoints.add(
        "valyu", "run", resource="mine", task_id="evil", secret=secret
    )
    view = store.endpoints.find(endpoint_id)
    for batch in (BATCH, "invented"):
        announced = {"run_id": "mine", "batch_run_id": batch, "status": "complete"}
        headers = [(b"authorization", f"Bearer {secret}".encode())]
        keys = prepare(source.scheme, secret)
        body = json.dumps(announced).encode()
        hints = verify_delivery(source, view, keys, headers, body, now=0.0).delivery.hints
        assert "batch" not in (hints or {})
        announce(store, "mine", kind="run", endpoint_id=endpoint_id, hints=hints)
    victim = BatchSender({"v1": "complete"})
    await work(store, victim, rounds=2)
    assert [(known.batch_id, known.task_id) for known in store.batches.list_newest()] == [
        (BATCH, TASK)
    ]
    assert (ledger(store, BATCH).state, ledger(store, BATCH).stored) == ("complete", 1)


async def test_fetched_run_hurries_open_batch(store: Store) -> None:
    sender = GroupSender({"r1": "completed"})
    store.batches.check("valyu", GROUP, after=timedelta(hours=1))
    announce_run(store, "r1", group=None)
    await work_off(store, parallel(), client=answering(sender))
    due = store.batches.check_due("valyu", GROUP)
    assert due is not None
    assert due < timedelta(seconds=5)
