"""The report of `batch show` and `batch wait`: what is missing of a batch, and why."""

import json

import pytest

from storage import AttemptOutcome, FetchedBatch, FetchedRun, Store, now
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.working import announce, known, sql

pytestmark = pytest.mark.usefixtures("configured")

REASON = "the sender answered 404: no such batch"


def a_dead_fetch(store: Store) -> int:
    """A batch of 25 whose fetch was given up before any task was named; its number."""
    batch = FetchedBatch("batch_1", "processing", is_terminal=False, total=25)
    store.batches.note("valyu", batch)
    announce(store, "batch_1")
    lease = working.claim(store)
    store.jobs.bury(lease, AttemptOutcome(now(), 0.0, "dead", REASON))
    return lease.job_id


def test_show_prints_what_is_missing_and_why(run: Run, store: Store) -> None:
    job_id = a_dead_fetch(store)
    text = run("batch", "show", "batch_1").out
    assert "25 not named yet" in text
    assert f"job {job_id}: dead: {REASON}" in text
    assert REASON in text.split("resultsink dead replay ID")[1]


def test_show_says_the_same_to_programs(run: Run, store: Store) -> None:
    job_id = a_dead_fetch(store)
    shown = json.loads(run("batch", "show", "batch_1", "--json").out)
    assert (shown["expected"], shown["missing"], shown["unnamed"]) == (25, 25, 25)
    assert shown["missing_runs"] == []
    assert [(dead["id"], dead["reason"]) for dead in shown["dead"]] == [(job_id, REASON)]
    assert (shown["last_attempt"]["outcome"], shown["last_attempt"]["detail"]) == ("dead", REASON)


def test_show_without_an_attempt(run: Run, store: Store) -> None:
    known(store, "batch_1")
    shown = json.loads(run("batch", "show", "batch_1", "--json").out)
    assert (shown["missing"], shown["dead"], shown["last_attempt"]) == (0, [], None)


def test_wait_reports_dead_letters(run: Run, store: Store) -> None:
    job_id = a_dead_fetch(store)
    ended = run("batch", "wait", "batch_1", "--timeout", "0.3", "--json")
    note = f"A dead letter keeps results away: {REASON}. When that is mended: "
    assert ended.err.count(f"{note}resultsink dead replay {job_id}\n") == 1
    assert (ended.code, json.loads(ended.out)["dead"][0]["id"]) == (1, job_id)


def test_dead_letter_counts_until_the_result(run: Run, store: Store) -> None:
    known(store, "batch_1")
    announce(store, "t1", kind="task")
    store.jobs.bury(working.claim(store), AttemptOutcome(now(), 0.0, "dead", REASON))
    insert = (
        "INSERT INTO runs (source, run_id, batch_id, status) VALUES ('valyu', 't1', ?, 'queued')"
    )
    sql(store, insert, "batch_1")
    assert [dead["subject"] for dead in store.batches.dead_letters("valyu", "batch_1")] == ["t1"]
    assert store.batches.dead_letters("valyu", "batch_2") == []
    announce(store, "t1", kind="task", body=b"again")
    result = FetchedRun("t1", "completed", "completed", raw={})
    store.results.store(working.claim(store), [result], fetched_at=now(), progress={})
    assert store.batches.dead_letters("valyu", "batch_1") == []
