"""The report of `batch show` and `batch wait`: what is missing of a batch, and why."""

import json
from typing import Any

import pytest

from receiver.cli.batch.report import Hindrances
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


# --- of what the missing ones are made up ---------------------------------------------------------


def missing(run: Run) -> str:
    (line,) = [
        line for line in run("batch", "show", "batch_1").out.splitlines() if "missing  " in line
    ]
    return line.removeprefix("missing").strip()


def test_nothing_is_known_before_the_sender_was_asked(run: Run, store: Store) -> None:
    store.batches.register("valyu", "batch_1", endpoint_id=None)
    store.batches.add_runs("valyu", "batch_1", [], submitted=2)
    assert missing(run) == "2  not known yet: the sender was not asked"


@pytest.mark.parametrize(
    ("status", "counts", "said"),
    [
        ("processing", {"total": 5, "ended": 2}, "2 ended, 3 still going on"),
        ("cancelled", {"total": 5, "ended": 2}, "2 ended, 3 not ended, though cancelled"),
        ("open", {"total": 0, "ended": 0}, "not among those that the sender counts"),
        ("open", {"total": 4, "ended": 0}, "4 still going on, 1 not among those"),
        ("open", {}, "without an end yet"),
    ],
)
def test_missing_runs_are_as_the_sender_counts(
    run: Run, store: Store, status: str, counts: dict[str, Any], said: str
) -> None:
    store.batches.register("valyu", "batch_1", endpoint_id=None)
    store.batches.add_runs("valyu", "batch_1", [], submitted=5)
    store.batches.note("valyu", FetchedBatch("batch_1", status, is_terminal=False, **counts))
    assert missing(run).startswith(f"5  {said}")


# --- while somebody waits -------------------------------------------------------------------------


def test_pause_is_said_when_it_begins_changes_and_ends(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    known(store, "batch_1")
    expected = FetchedBatch("batch_1", "processing", is_terminal=False, total=2)
    batch, hindrances = store.batches.note("valyu", expected), Hindrances(store)
    hindrances.report([batch])
    for reason in ("401: wrong key", "401: wrong key", "402: no credit"):
        pause(store, reason)
        hindrances.report([batch])
    sql(store, "DELETE FROM source_state")
    hindrances.report([batch])
    assert capsys.readouterr().err.splitlines() == [
        "Source valyu is paused: 401: wrong key.",
        "Source valyu is paused: 402: no credit.",
        "Source valyu is paused no more.",
    ]


def pause(store: Store, reason: str) -> None:
    """A look at the batch that the sender refuses for the whole source."""
    working.make_due(store)
    lease = working.claim(store)
    store.sources.pause(lease, AttemptOutcome(now(), 0.0, "paused", reason), after=3600)


def test_wait_ends_with_the_reason_of_a_pause(run: Run, store: Store) -> None:
    batch = FetchedBatch("batch_1", "processing", is_terminal=False, total=25)
    store.batches.note("valyu", batch)
    pause(store, "401: wrong key")
    ended = run("batch", "wait", "batch_1", "--timeout", "0")
    assert ended.err.count("Source valyu is paused: 401: wrong key.\n") == 1
    assert ended.err.endswith("Source valyu is still paused: 401: wrong key.\n")
