"""Verifying: drift is named run by run, a repair stores what the sender shows, no more."""

import json
from typing import Any

import httpx
import pytest

from receiver.sandbox import SandboxServer
from receiver.sender_api.client_pool import clients_for
from receiver.sources import Source
from receiver.work.reconcile import patience
from receiver.work.verify import Report, Verification
from storage import Store
from tests.receiver import working
from tests.receiver.parallel_senders import (
    BATCH,
    GROUP,
    TASK,
    BatchSender,
    GroupSender,
    parallel,
    parallel_v0,
)
from tests.receiver.working import (
    a_batch,
    a_source,
    answering,
    ask,
    calls_of,
    known,
    make_due,
    run_named,
    sql,
    stored,
    work_off,
)

running_sender, sender = working.running_sender, working.sender


async def verify(
    store: Store, source: Source, batch_id: str | None = None, *, client: Any = None, **how: Any
) -> Report:
    async with client or clients_for() as wire:
        verification = Verification(store, calls_of(source, wire), **how)
        return await (verification.all() if batch_id is None else verification.batch(batch_id))


def named(report: Report) -> list[tuple[str, str]]:
    return sorted((each.run_id, each.kind.value) for each in report.drift)


def unnamed(report: Report) -> list[tuple[str, str]]:
    return sorted((each.run_id, each.kind.value) for each in report.not_comparable)


def spoil(store: Store, run_id: str, *, status: str = "completed") -> None:
    """Change the stored result of a run, as nothing of ours would."""
    sql(
        store,
        "UPDATE results SET digest = ?, status = ?"
        " WHERE run_pk = (SELECT id FROM runs WHERE run_id = ?)",
        *(b"x", status, run_id),
    )


def prune(store: Store, run_id: str) -> None:
    sql(
        store,
        "UPDATE results SET pruned_at = ? WHERE run_pk = (SELECT id FROM runs WHERE run_id = ?)",
        *("2026-10-05 12:00:00.000000", run_id),
    )


def lose(store: Store, run_id: str, *, whole: bool = False) -> None:
    sql(store, "DELETE FROM results WHERE run_pk = (SELECT id FROM runs WHERE run_id = ?)", run_id)
    if whole:
        sql(store, "DELETE FROM runs WHERE run_id = ?", run_id)


async def brought_in(store: Store, source: Source, batch_id: str, *, client: Any = None) -> None:
    store.batches.check("valyu", batch_id)
    make_due(store)
    await work_off(store, source, client=client)


async def test_drift_is_named_and_repaired(store: Store, sender: SandboxServer) -> None:
    batch_id, runs = a_batch(sender, 6)
    source = a_source(sender.api_url)
    await brought_in(store, source, batch_id)
    assert (await verify(store, source)).is_same
    _, other, state, lost, unknown, pruned = runs
    spoil(store, other)
    spoil(store, state, status="failed")
    lose(store, lost)
    lose(store, unknown, whole=True)
    prune(store, pruned)
    report = await verify(store, source, batch_id)
    drift = sorted(
        [
            (other, "content differs"),
            (state, "state differs"),
            (lost, "missing here"),
            (unknown, "missing here"),
        ]
    )
    assert (named(report), unnamed(report)) == (drift, [(pruned, "pruned here")])
    assert (report.is_same, report.compared, len(stored(store))) == (False, 6, 4)
    mended = await verify(store, source, batch_id, repairs=True)
    assert (mended.is_same, named(mended), len(mended.repaired)) == (True, [], 4)
    versions = sql(store, "SELECT version, found_by FROM results ORDER BY version")
    assert [row["version"] for row in versions] == [1, 1, 1, 1, 1, 1, 2, 2]
    assert [row["found_by"] for row in versions].count("reconcile") == 4
    assert (await verify(store, source)).is_same


DAMAGES = [
    ("UPDATE results SET status = 'failed'", "state differs"),
    ("UPDATE runs SET status = 'failed'", "state differs"),
    ("UPDATE results SET output = '{\"x\":1}'", "content differs"),
    ("UPDATE results SET output = NULL", "content differs"),
    ("UPDATE results SET sources = '[]'", "content differs"),
    ("UPDATE results SET error = 'e'", "content differs"),
    ("UPDATE results SET is_current = false", "missing here"),
]


@pytest.mark.parametrize(("damage", "kind"), DAMAGES)
async def test_what_is_stored_is_compared_not_its_digest(
    store: Store, sender: SandboxServer, damage: str, kind: str
) -> None:
    batch_id, (run_id,) = a_batch(sender, 1)
    source = a_source(sender.api_url)
    await brought_in(store, source, batch_id)
    good = stored(store)[0]
    sql(store, damage)
    assert named(await verify(store, source)) == [(run_id, kind)]
    mended = await verify(store, source, repairs=True)
    assert (mended.is_same, len(mended.repaired)) == (True, 1)
    assert [row["output"] for row in stored(store)] == [good["output"]]
    assert sql(store, "SELECT status FROM runs") == [{"status": "completed"}]


async def test_cleaned_and_very_deep_results_are_no_drift(store: Store) -> None:
    deep: Any = "leaf"
    for _ in range(400):
        deep = [deep]
    outputs = {"t1": "a\x00b", "t2": deep, "t3": [1e22, -0.0, 10**30, "\ud800"]}

    def answer(request: httpx.Request) -> httpx.Response:
        run_id = request.url.path.split("/")[-2]
        return httpx.Response(200, text=json.dumps(run_named(run_id, output=outputs[run_id])))

    for run_id in outputs:
        store.runs.expect("valyu", run_id, endpoint_id=None, secret=None, input=None, runner=None)
    await verify(store, a_source(), repairs=True, client=answering(answer))
    report = await verify(store, a_source(), client=answering(answer))
    assert (report.is_same, report.compared, len(stored(store))) == (True, 3, 3)


async def test_group_costs_a_stream_and_a_status(store: Store) -> None:
    group = GroupSender({"r1": "completed", "r2": "failed", "r3": "running"})
    await brought_in(store, parallel(), GROUP, client=answering(group))
    group.calls.clear()
    report = await verify(store, parallel(), GROUP, client=answering(group))
    assert (report.is_same, report.compared, report.going_on) == (True, 2, 1)
    assert group.calls == [f"/groups/{GROUP}", f"/groups/{GROUP}/runs"]
    lose(store, "r2")
    assert (await verify(store, parallel(), repairs=True, client=answering(group))).is_same
    assert [row["run_id"] for row in stored(store)] == ["r1", "r2"]


async def test_v0_batch_is_compared_with_failed_runs(store: Store) -> None:
    batch = BatchSender({"r1": "complete", "r2": "failed"})
    store.batches.register("valyu", BATCH, endpoint_id=None, task_id=TASK)
    await brought_in(store, parallel_v0(), BATCH, client=answering(batch))
    spoil(store, "r2", status="failed")
    report = await verify(store, parallel_v0(), BATCH, client=answering(batch))
    assert named(report) == [("r2", "content differs")]
    assert (await verify(store, parallel_v0(), repairs=True, client=answering(batch))).is_same


async def test_forgotten_runs_are_gone_and_not_drift(store: Store, sender: SandboxServer) -> None:
    batch_id, runs = a_batch(sender, 2)
    source = a_source(sender.api_url)
    await brought_in(store, source, batch_id)
    gone = answering(lambda _: httpx.Response(404, json={"error": "Batch not found"}))
    report = await verify(store, source, client=gone)
    assert (report.is_same, unnamed(report)) == (True, sorted((r, "gone there") for r in runs))


async def test_expected_run_that_nobody_made_is_drift(store: Store, sender: SandboxServer) -> None:
    store.runs.expect("valyu", "t9", endpoint_id=None, secret=None, input=None, runner=None)
    report = await verify(store, a_source(sender.api_url))
    assert named(report) == [("t9", "missing there")]


async def test_single_run_is_compared_by_its_own_call(store: Store, sender: SandboxServer) -> None:
    task = ask(sender, "POST", "/deepresearch/tasks", {"query": "q"})["deepresearch_id"]
    store.endpoints.add("valyu", "task", resource=task)
    source = a_source(sender.api_url)
    report = await verify(store, source, repairs=True)
    assert ([each.run_id for each in report.repaired], report.is_same) == ([task], True)
    assert [row["run_id"] for row in stored(store)] == [task]


async def test_repair_stores_results_without_stamp(store: Store) -> None:
    def answering_with(**more: Any) -> Any:
        return answering(lambda _: httpx.Response(200, json=run_named("t1", **more)))

    store.runs.expect("valyu", "t1", endpoint_id=None, secret=None, input=None, runner=None)
    stamped = answering_with(completed_at="2026-10-05T12:00:00.000Z")
    await verify(store, a_source(), repairs=True, client=stamped)
    other = {"status": "failed", "output": None, "error": "went wrong"}
    report = await verify(store, a_source(), repairs=True, client=answering_with(**other))
    assert (report.is_same, stored(store)[0]["status"]) == (True, "failed")


# --- what cannot be compared --------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(429, json={"error": "slow down", "retry_after": 60}),
        httpx.Response(502, text="<html>"),
        httpx.Response(401, json={"error": "Invalid API key"}),
    ],
    ids=["429", "502", "401"],
)
async def test_broken_answer_is_incomplete(store: Store, answer: httpx.Response) -> None:
    known(store, "b1")
    report = await verify(store, a_source(), client=answering(lambda _: answer))
    assert (report.is_same, report.incomplete[0].what) == (False, "batch b1")


async def test_listing_that_breaks_off_is_incomplete(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TRIES", 1)
    sender.change(max_page_size=2)
    batch_id, _ = a_batch(sender, 5)
    source = a_source(sender.api_url)
    await brought_in(store, source, batch_id)
    lists = "GET /deepresearch/batches/*/tasks?*last_key=*"
    sender.add_fault(match=lists, status=502, times=None, after=1)
    report = await verify(store, source, batch_id)
    assert (report.compared, [left.what for left in report.incomplete]) == (
        4,
        [f"batch {batch_id}"],
    )


async def test_counts_above_the_names_are_incomplete(store: Store) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        counts = {"total": 3, "completed": 3, "failed": 0, "cancelled": 0}
        return working.batch_of_one(request, counts)

    known(store, "batch_1")
    report = await verify(store, a_source(), client=answering(answer))
    assert [left.why for left in report.incomplete] == ["the sender counts 3 runs, and 1 are named"]


async def test_rate_limit_among_single_runs_ends_the_comparison(store: Store) -> None:
    for run_id in ("t1", "t2"):
        store.runs.expect("valyu", run_id, endpoint_id=None, secret=None, input=None, runner=None)
    limited = httpx.Response(429, json={"error": "slow down", "retry_after": 60})
    report = await verify(store, a_source(), client=answering(lambda _: limited))
    assert [left.what for left in report.incomplete] == ["run t1", "everything after that"]
    assert (report.is_same, report.drift) == (False, [])
