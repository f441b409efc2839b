"""Gaps that a batch's listing leaves: outputs that come late, runs named once, counts missing."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from receiver.sources import Source
from receiver.work.fetch.late_outputs import FEWEST_LOOKS, SEEN_WITHOUT_OUTPUT
from storage import FetchedRun, Lease, Store, Stored, SubmittedRun
from tests.receiver.parallel_senders import (
    BATCH,
    GROUP,
    TASK,
    BatchSender,
    GroupSender,
    events,
    parallel,
    parallel_v0,
)
from tests.receiver.working import (
    announce,
    answering,
    job,
    jobs,
    ledger,
    make_due,
    make_old,
    sql,
    stored,
    work_off,
)

# The wire decides what happens here, not SQL: one database is enough.
pytestmark = pytest.mark.sqlite

THE_GROUP, ITS_RUNS = f"/groups/{GROUP}", f"/groups/{GROUP}/runs"


def a_group(store: Store, sender: GroupSender) -> None:
    """A group that we made, with its runs."""
    store.batches.register("valyu", GROUP, endpoint_id=None)
    runs = [SubmittedRun(run_id, None, {"q": run_id}) for run_id in sender.runs]
    store.batches.add_runs("valyu", GROUP, runs)


def a_v0_batch(store: Store, sender: BatchSender) -> None:
    store.batches.register("valyu", BATCH, endpoint_id=None, task_id=TASK)
    runs = [SubmittedRun(run_id, TASK, {"q": run_id}) for run_id in sender.runs]
    store.batches.add_runs("valyu", BATCH, runs)


async def work(store: Store, sender: GroupSender | BatchSender, rounds: int = 1) -> None:
    """Work off what is due so many times, letting the time pass between them."""
    source = parallel() if isinstance(sender, GroupSender) else parallel_v0()
    for _ in range(rounds):
        make_due(store)
        await work_off(store, source, client=answering(sender))


def alone(sender: GroupSender) -> list[str]:
    """The calls for single runs."""
    return sorted(path for path in sender.calls if path.startswith("/runs/"))


# --- v1 -----------------------------------------------------------------------------------------


class Late(GroupSender):
    """A group whose stream never brings an output."""

    def events(self) -> list[dict[str, Any]]:
        return [{**event, "output": None} for event in super().events()]


async def test_late_outputs_asked_individually(store: Store) -> None:
    sender = Late({"a": "completed", "b": "completed", "stuck": "running"})
    a_group(store, sender)
    await work(store, sender)
    assert [(row["run_id"], row["output"]) for row in stored(store)] == [
        ("a", '"of a"'),
        ("b", '"of b"'),
    ]
    assert alone(sender) == ["/runs/a/result", "/runs/b/result"]
    assert (ledger(store, GROUP).state, job(store)["status"]) == ("open", "pending")


class Once(GroupSender):
    """A group whose stream names every run once, as it is then, and never again."""

    def events(self) -> list[dict[str, Any]]:
        named = {event["run"]["run_id"]: event for event in super().events()}
        return [
            {**named.get(run_id, {"run": self.run(run_id)}), "event_id": str(number)}
            for number, run_id in enumerate(self.runs, start=1)
        ]


async def test_run_named_running_is_asked_last(store: Store) -> None:
    sender = Once({"b": "running", "a": "completed"})
    a_group(store, sender)
    await work(store, sender)
    assert (ledger(store, GROUP).stored, alone(sender)) == (1, [])
    sender.runs["b"] = "completed"
    await work(store, sender)
    assert (ledger(store, GROUP).state, ledger(store, GROUP).stored) == ("complete", 2)
    assert alone(sender) == ["/runs/b/result"]


class Uncounted(GroupSender):
    """A group that tells how many runs it has, and not of what kind."""

    def group(self) -> dict[str, Any]:
        shown = super().group()
        return {**shown, "status": {**shown["status"], "task_run_status_counts": {}}}


async def test_missing_counts_list_at_end(store: Store) -> None:
    sender = Uncounted({"a": "running", "b": "failed"})
    store.batches.check("valyu", GROUP)
    await work(store, sender)
    assert (sender.calls, ledger(store, GROUP).state) == ([THE_GROUP], "open")
    sender.runs["a"] = "completed"
    await work(store, sender)
    assert (ledger(store, GROUP).state, ledger(store, GROUP).stored) == ("complete", 2)
    assert sender.calls[-1] == ITS_RUNS


async def test_missing_counts_never_complete_early(
    store: Store,
) -> None:
    sender = Uncounted({"a": "completed", "b": "completed"})
    sender.first = lambda r: events(*sender.events()[:1]) if r.url.path.endswith("/runs") else None
    store.batches.check("valyu", GROUP)
    await work(store, sender)
    assert (ledger(store, GROUP).state, ledger(store, GROUP).expected) == ("open", 2)


async def test_rerun_missing_until_new_result(
    store: Store,
) -> None:
    sender = GroupSender({"a": "failed"})
    a_group(store, sender)
    await work(store, sender)
    sender.runs["a"] = "completed"
    anew = FetchedRun("a", "completed", "completed", {}, batch_id=GROUP, has_output=False)
    store.runs.note("valyu", anew, fetched_at=store.now())
    assert ledger(store, GROUP).stored == 0
    store.batches.check("valyu", GROUP)
    await work(store, sender)
    assert [row["output"] for row in stored(store)] == ['"of a"']
    assert {each["status"] for each in jobs(store)} == {"done"}


# --- v0 -----------------------------------------------------------------------------------------


async def test_runs_of_reopened_batch_relisted(store: Store) -> None:
    sender = BatchSender({"r1": "failed", "r2": "complete"})
    a_v0_batch(store, sender)
    await work(store, sender)
    assert ledger(store, BATCH).state == "complete"
    sender.runs["r1"] = "complete"
    sender.calls.clear()
    store.batches.check("valyu", BATCH)
    await work(store, sender)
    assert sender.calls == [f"/batches/{BATCH}", f"/batches/{BATCH}/export"]
    assert {row["run_id"]: row["status"] for row in stored(store)} == dict.fromkeys(
        sender.runs, "completed"
    )


async def test_known_export_rows_are_not_restored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = BatchSender({**{f"r{number}": "complete" for number in range(60)}, "last": "running"})
    a_v0_batch(store, sender)
    await work(store, sender)
    parts: list[int] = []
    store_results = store.results.store

    def counted(lease: Lease, runs: Sequence[FetchedRun], **how: Any) -> Stored:
        parts.append(len(runs))
        return store_results(lease, runs, **how)

    monkeypatch.setattr(store.results, "store", counted)
    sender.runs["last"] = "complete"
    await work(store, sender)
    assert (parts, ledger(store, BATCH).state) == ([61, 1, 60], "complete")


class Rows(BatchSender):
    """A batch of v0 that is exported as CSV, with the runs that failed."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        response = super().__call__(request)
        if not request.url.path.endswith("/export"):
            return response
        ended = {name: status for name, status in self.runs.items() if status != "running"}
        rows = [f"{TASK},{BATCH},{name},{status},neon,{name},5" for name, status in ended.items()]
        text = "\r\n".join(["task_id,batch_run_id,run_id,status,runner,q,n", *rows, ""])
        return httpx.Response(200, text=text, headers={"content-type": "text/csv"})

    def run(self, run_id: str) -> dict[str, Any]:
        shown = super().run(run_id)
        return shown if shown["output"] is None else {**shown, "output": {"n": 5}}


def by_rows(store: Store, sender: BatchSender) -> Source:
    """A batch whose arguments are known, and its source, which exports it as CSV."""
    a_v0_batch(store, sender)
    store.batches.register("valyu", BATCH, endpoint_id=None, defaults={"arguments": ["q"]})
    return parallel_v0(api={"export": "csv"})


async def test_csv_row_replaces_no_typed_result(
    store: Store,
) -> None:
    sender = Rows({"r1": "complete", "r2": "running"})
    source = by_rows(store, sender)
    announce(store, "r1", kind="run", hints={"status": "complete", "again": True})
    await work_off(store, source, client=answering(sender))
    sender.runs["r2"] = "complete"
    make_due(store)
    await work_off(store, source, client=answering(sender))
    outputs = {row["run_id"]: (row["version"], row["output"]) for row in stored(store)}
    assert outputs == {"r1": (1, '{"n": 5}'), "r2": (1, '{"n": "5"}')}


async def test_csv_row_omits_failure_reason(store: Store) -> None:
    sender = Rows({"r1": "failed"})
    source = by_rows(store, sender)
    make_due(store)
    await work_off(store, source, client=answering(sender))
    assert [(row["status"], row["error"]) for row in stored(store)] == [("failed", "went wrong")]


class WithoutOutputs(BatchSender):
    """A batch of v0 whose runs are complete before their outputs are there."""

    there = False

    def run(self, run_id: str) -> dict[str, Any]:
        return super().run(run_id) if self.there else {**super().run(run_id), "output": None}


async def test_late_output_in_old_batch_awaited(store: Store) -> None:
    sender = WithoutOutputs({"r1": "complete"})
    a_v0_batch(store, sender)
    make_old(store, 60)
    await work(store, sender, rounds=3)
    assert (ledger(store, BATCH).state, stored(store)) == ("open", [])
    sender.there = True
    announce(store, "r1", kind="run", hints={"batch": BATCH, "status": "complete"})
    await work(store, sender, rounds=3)
    assert [json.loads(row["output"]) for row in stored(store)] == [{"city": "of r1"}]
    assert ledger(store, BATCH).state == "complete"


@pytest.mark.parametrize(("minutes", "believed"), [(14, False), (16, True)])
async def test_absent_output_is_finally_believed(
    store: Store, minutes: float, believed: bool
) -> None:
    sender = WithoutOutputs({"r1": "complete"})
    a_v0_batch(store, sender)
    await work(store, sender)
    progress = json.loads(job(store)["progress"])
    seen, _ = progress[SEEN_WITHOUT_OUTPUT]["r1"]
    earlier = datetime.fromisoformat(seen) - timedelta(minutes=minutes)
    progress[SEEN_WITHOUT_OUTPUT]["r1"] = earlier.isoformat(), FEWEST_LOOKS - 1
    sql(store, "UPDATE jobs SET progress = ?", json.dumps(progress))
    await work(store, sender)
    assert [row["output"] for row in stored(store)] == [None] * believed
    assert ledger(store, BATCH).state == ("complete" if believed else "open")


class Nulls(BatchSender):
    """A batch of v0 whose export has a null in the place of what did not complete."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        response = super().__call__(request)
        if not request.url.path.endswith("/export"):
            return response
        return httpx.Response(200, json=[None, *response.json(), None])


async def test_null_in_export_spares_runs(store: Store) -> None:
    sender = Nulls({"r1": "complete", "r2": "failed"})
    a_v0_batch(store, sender)
    await work(store, sender)
    assert (ledger(store, BATCH).state, ledger(store, BATCH).failed) == ("complete", 1)
    assert job(store)["status"] == "done"
