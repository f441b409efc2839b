"""Old rows go, in small steps; live ones stay, and no ledger becomes a lie."""

import io
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage import (
    KINDS,
    Ages,
    ExportChanged,
    FetchedBatch,
    Selection,
    Step,
    Store,
    jobs,
    now,
    retention,
)
from storage.batches import batches
from storage.database import Database
from storage.deliveries import recording
from storage.export import rows as export_rows
from storage.models import Attempt, Delivery, Event, Job, Result
from storage.runs import results
from storage.runs.merges import current_results, merges
from storage.runs.results import ResultPage
from storage.runs.rows import row_of
from tests.storage.build import (
    NOON,
    at,
    claim,
    contents,
    delivery,
    job,
    keep,
    rows,
    run,
    tried,
)

DAY = timedelta(days=1)
AGES = Ages(deliveries=2 * DAY, attempts=3 * DAY, events=5 * DAY)
RESULTS = Ages(results=10 * DAY)
LATER = NOON + 1000 * DAY


def prune(
    database: Database, ages: Ages = AGES, *, now: datetime = LATER, dry_run: bool = False
) -> dict[str, int]:
    """Walk through every kind to the end; how many rows of each went."""
    gone = {kind: walk(database, kind, ages, now=now, dry_run=dry_run) for kind in KINDS}
    return {kind: count for kind, count in gone.items() if count}


def walk(database: Database, kind: str, ages: Ages, *, now: datetime, dry_run: bool = False) -> int:
    total, after, is_end = 0, 0, False
    while not is_end:
        with database.read() as connection:
            found = retention.look(connection, kind, ages, after=after, now=now, keep=dry_run)
        gone = list(found.sizes)
        if gone and not dry_run:
            gone = let_go(database, kind, ages, gone, now=now)
        total, after, is_end = total + len(gone), found.reached, found.is_end
    return total


def let_go(
    database: Database, kind: str, ages: Ages, ids: list[int], *, now: datetime
) -> list[int]:
    return database.write(lambda c: retention.let_go(c, kind, ages, ids, now=now))


def record(
    database: Database, *keys: str, now: datetime = NOON, body: bytes = b"{}"
) -> list[str | Exception]:
    group = [delivery(key, body) for key in keys]
    return database.write(lambda c: recording.record(c, group, now=now))


def work_off(database: Database, *, now: datetime = NOON, outcome: Any = jobs.finish) -> None:
    """Claim what is due, and end it."""
    for lease in claim(database, now=now, limit=1000):
        database.write(partial(outcome, lease=lease, outcome=tried(start=now)))


def store_results(database: Database, *runs: Any, now: datetime = NOON) -> None:
    database.write(lambda c: keep(c, *runs, fetched_at=now))


# --- deliveries ---------------------------------------------------------------------------------


def test_old_body_goes_but_digest_stays(database: Database) -> None:
    record(database, "event", body=b"body")
    work_off(database)
    assert prune(database, now=NOON + 2 * DAY) == {}
    now = NOON + 2 * DAY + timedelta(seconds=1)
    assert prune(database, now=now) == {"deliveries": 1}
    (row,) = rows(database, Delivery)
    assert (row.body, row.headers, row.pruned_at) == (b"", "", now)
    assert row.digest == sha256(b"body").digest()


def test_redelivery_of_pruned_body_only_counts(database: Database) -> None:
    record(database, "event")
    work_off(database)
    prune(database, now=NOON + 3 * DAY)
    assert record(database, "event", now=NOON + 4 * DAY) == ["duplicate"]
    (row,) = rows(database, Delivery)
    assert (row.copies, row.last_copy_at, row.body) == (1, NOON + 4 * DAY, b"")
    assert [row.status for row in rows(database, Job)] == ["done"]


def test_other_body_of_pruned_event_is_fetched(database: Database) -> None:
    record(database, "event")
    work_off(database)
    prune(database, now=NOON + 3 * DAY)
    record(database, "event", now=NOON + 4 * DAY, body=b"other")
    assert [row.body for row in rows(database, Delivery)] == [b"", b"other"]
    assert [row.status for row in rows(database, Job)] == ["done", "pending"]
    prune(database)
    assert [row.body for row in rows(database, Delivery)] == [b"", b"other"]


def test_emptied_delivery_carries_no_result(store: Store) -> None:
    record(store.database, "event", body=b"old")
    work_off(store.database)
    prune(store.database, now=NOON + 3 * DAY)
    record(store.database, "event", now=NOON + 3 * DAY, body=b"new")
    assert store.events.bodies(rows(store.database, Event)[0].id) == [b"new"]


# --- what is alive ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "running", "dead"])
def test_live_job_keeps_everything(database: Database, status: str) -> None:
    record(database, "event", body=b"body")
    if status != "pending":
        (lease,) = claim(database)
        database.write(lambda c: jobs.reschedule(c, lease, tried("failed"), after=0, failed=True))
        (lease,) = claim(database)
        if status == "dead":
            database.write(lambda c: jobs.bury(c, lease, tried("dead")))
    before = contents(database)
    assert prune(database) == {}
    assert contents(database) == before


def test_dead_letter_replays_after_years(store: Store) -> None:
    record(store.database, "event", body=b"carried")
    work_off(store.database, outcome=jobs.bury)
    prune(store.database)
    store.jobs.replay(1)
    assert store.events.bodies(job(store.database, 1).event_id) == [b"carried"]
    work_off(store.database, now=LATER)
    assert prune(store.database, now=LATER + 9 * DAY) == {
        "attempts": 3,
        "deliveries": 1,
        "jobs": 1,
        "events": 1,
    }


def test_job_arriving_during_pruning_is_spared(
    database: Database,
) -> None:
    record(database, "event")
    work_off(database)
    with database.read() as connection:
        found = retention.look(connection, "deliveries", AGES, after=0, now=LATER)
    record(database, "event", now=LATER, body=b"other")
    assert list(found.sizes) == [1]
    assert let_go(database, "deliveries", AGES, [1], now=LATER) == []


# --- attempts, jobs, events ---------------------------------------------------------------------


def test_attempts_go_by_their_own_age(database: Database) -> None:
    record(database, "event")
    (lease,) = claim(database)
    database.write(lambda c: jobs.reschedule(c, lease, tried("failed"), after=0, failed=True))
    work_off(database, now=NOON + 2 * DAY)
    ages = replace(AGES, deliveries=5 * DAY)
    assert prune(database, ages, now=NOON + 4 * DAY) == {"attempts": 1}
    assert [row.started_at for row in rows(database, Attempt)] == [NOON + 2 * DAY]


def test_event_goes_with_dependent_rows(database: Database) -> None:
    record(database, "event")
    record(database, "event", body=b"other")
    work_off(database)
    gone = prune(database, now=NOON + 6 * DAY)
    assert gone == {"attempts": 2, "deliveries": 2, "jobs": 2, "events": 1}
    for model in (Event, Delivery, Job, Attempt):
        assert rows(database, model) == []
    assert record(database, "event", now=NOON + 6 * DAY) == ["accepted"]


def test_an_ignored_event_goes_too(database: Database) -> None:
    ignored = delivery(disposition="ignored")
    database.write(lambda c: recording.record(c, [ignored], now=NOON))
    assert prune(database) == {"deliveries": 1, "events": 1}


@pytest.mark.parametrize("body", [b"{}", b"other"])
def test_event_age_counts_from_last_delivery(database: Database, body: bytes) -> None:
    record(database, "event")
    work_off(database)
    record(database, "event", now=NOON + 4 * DAY, body=body)
    work_off(database, now=NOON + 4 * DAY)
    prune(database, now=NOON + 9 * DAY)
    assert len(rows(database, Event)) == 1
    prune(database, now=NOON + 9 * DAY + timedelta(seconds=1))
    assert rows(database, Event) == []


def test_event_outlives_its_attempts(database: Database) -> None:
    record(database, "event")
    work_off(database, now=NOON + 4 * DAY)
    prune(database, now=NOON + 6 * DAY)
    assert len(rows(database, Event)) == len(rows(database, Attempt)) == 1


def test_ended_checks_go_and_pending_stay(store: Store) -> None:
    ended, _ = store.endpoints.add("valyu", "task"), store.endpoints.add("valyu", "task")
    store.jobs.end_checks(ended)
    assert prune(store.database, now=LATER + 9000 * DAY) == {"jobs": 1}
    assert [row.status for row in rows(store.database, Job)] == ["pending"]


def test_kinds_without_age_stay_forever(database: Database) -> None:
    record(database, "event")
    work_off(database)
    store_results(database, run())
    before = contents(database)
    assert prune(database, Ages()) == {}
    assert contents(database) == before


@pytest.mark.parametrize(
    "ages",
    [
        {"events": DAY},
        {"events": DAY, "attempts": DAY, "deliveries": 2 * DAY},
        {"events": DAY, "attempts": 2 * DAY, "deliveries": DAY},
    ],
)
def test_events_never_go_before_dependents(ages: dict[str, timedelta]) -> None:
    with pytest.raises(ValueError, match="before what hangs on them"):
        Ages(**ages)


# --- results ------------------------------------------------------------------------------------


def complete_batch(database: Database, *run_ids: str) -> None:
    """A batch whose results came at noon, and which is complete."""
    said = FetchedBatch("batch-1", "completed", True, total=len(run_ids), ended=len(run_ids))
    ended = [run(each, batch_id="batch-1", output="text", sources=["s"]) for each in run_ids]
    store_results(database, *ended)

    def work(connection: Any) -> None:
        batches.save(connection, "valyu", said, announced=True, now=NOON)
        batches.settle(connection, "valyu", said, now=NOON)

    database.write(work)


def test_old_result_content_goes_facts_stay(database: Database) -> None:
    store_results(database, run(output="text", sources=["s"], error="e", cost=0.5))
    (before,) = rows(database, Result)
    assert prune(database, RESULTS, now=NOON + 10 * DAY) == {}
    assert prune(database, RESULTS) == {"results": 1}
    (row,) = rows(database, Result)
    assert (row.output, row.sources, row.error, row.raw) == (None, None, None, "null")
    assert row.pruned_at == LATER
    for name in ("status", "digest", "version", "is_current", "cost", "fetched_at"):
        assert getattr(row, name) == getattr(before, name)
    assert prune(database, RESULTS) == {}


def test_pruned_batch_stays_complete(store: Store) -> None:
    complete_batch(store.database, "run-1", "run-2")
    store_results(store.database, run("alone", output="text"))
    assert prune(store.database, RESULTS) == {"results": 3}
    ledger = store.batches.ledger("batch-1")
    assert (ledger.state, ledger.stored, ledger.expected, ledger.pruned) == ("complete", 2, 2, 2)
    assert store.batches.story(ledger.batch_id).missing_runs == []
    assert store.runs.unseen("valyu", "batch-1", since=LATER, limit=9) == []
    assert store.runs.count_outstanding("valyu") == 0


def test_results_of_open_batch_stay(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="batch-1")
    store_results(store.database, run(batch_id="batch-1"))
    assert prune(store.database, RESULTS) == {}


def test_refetched_content_does_not_return(database: Database) -> None:
    whole = run(output="text", raw={"id": "run-1", "text": "whole"}, completed_at=NOON)
    store_results(database, whole)
    prune(database, RESULTS)
    again = replace(whole, raw={**whole.raw, "more": 1})
    store_results(database, again, now=LATER)
    (row,) = rows(database, Result)
    assert (row.raw, row.output, row.pruned_at) == ("null", None, LATER)


def test_merge_before_pruning_restores_nothing(database: Database) -> None:
    store_results(database, run(output="text"))
    again = run(output="text", raw={"id": "run-1", "more": 1})
    rows_of_page = [row_of(again)]
    with database.read() as connection:
        found = current_results(connection, "valyu", rows_of_page)
    known = merges(rows_of_page, found, fetched_at=LATER, now=LATER)
    prune(database, RESULTS)
    page = ResultPage(rows_of_page, LATER, "check", merges=known)
    database.write(lambda c: results.store(c, "valyu", [page], now=LATER))
    assert rows(database, Result)[0].raw == "null"


def test_news_of_pruned_run_is_a_version(database: Database) -> None:
    store_results(database, run(output="old"))
    prune(database, RESULTS)
    store_results(database, run(output="new"), now=LATER)
    found = [(row.version, row.is_current, row.output) for row in rows(database, Result)]
    assert found == [(1, False, None), (2, True, "new")]
    assert prune(database, RESULTS) == {}


def test_superseded_versions_go_by_successor_age(database: Database) -> None:
    ages = Ages(versions=10 * DAY)
    for day, output in ((0, "first"), (50, "second"), (51, "third")):
        store_results(database, run(output=output), now=NOON + day * DAY)
    store_results(database, run("run-2"))
    assert prune(database, ages, now=NOON + 60 * DAY) == {}
    assert prune(database, ages, now=NOON + 60 * DAY + timedelta(seconds=1)) == {"versions": 1}
    assert prune(database, ages) == {"versions": 1}
    assert [row.version for row in rows(database, Result)] == [3, 1]
    store_results(database, run(output="fourth"), now=LATER)
    assert [row.version for row in rows(database, Result)] == [3, 1, 4]


# --- exports ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_export_omits_and_counts_pruned_results(store: Store, form: str) -> None:
    complete_batch(store.database, "run-1", "run-2")
    prune(store.database, RESULTS, now=NOON + 11 * DAY)
    store_results(store.database, run("run-2", batch_id="batch-1", output="new"), now=LATER)
    selection, out = Selection(source="valyu", batch_id="batch-1"), io.BytesIO()
    assert store.export.write(selection, form, out).rows == 1
    assert b"run-2" in out.getvalue()
    assert b"run-1" not in out.getvalue()
    assert store.export.count_pruned(selection) == 1
    assert store.export.count_pruned(replace(selection, status="failed")) == 0
    assert store.export.count_pruned(replace(selection, batch_id="other")) == 0


def test_export_ends_when_result_is_pruned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_rows, "PAGE_ROWS", 1)
    complete_batch(store.database, "run-1", "run-2")
    lines = store.export.json_lines(Selection(source="valyu"))
    assert b"run-1" in next(lines)
    far = now() + 1000 * DAY
    prune(store.database, RESULTS, now=far)
    with pytest.raises(ExportChanged, match=r"pruned meanwhile: export again\.$"):
        next(lines)


# --- steps --------------------------------------------------------------------------------------


def test_step_is_bounded_by_rows(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention.walk, "STEP_ROWS", 2)
    record(database, *(f"event-{number}" for number in range(5)))
    work_off(database)
    taken, after, is_end = [], 0, False
    while not is_end:
        with database.read() as connection:
            found = retention.look(connection, "deliveries", AGES, after=after, now=LATER)
        taken.append(list(found.sizes))
        after, is_end = found.reached, found.is_end
    assert taken == [[1, 2], [3, 4], [5], []]


def test_step_is_bounded_by_bytes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention.walk, "STEP_BYTES", 100)
    for number, size in enumerate((200, 30, 30, 200)):
        record(database, f"event-{number}", body=b"x" * size)
    work_off(database)
    with database.read() as connection:
        first = retention.look(connection, "deliveries", AGES, after=0, now=LATER)
        second = retention.look(connection, "deliveries", AGES, after=1, now=LATER)
    assert (list(first.sizes), first.is_end) == ([1], False)
    assert (list(second.sizes), second.is_end) == ([2, 3], False)
    assert sum(second.sizes.values()) == 60 + 2 * len("webhook-id: 1\n")


def steps(store: Store, *bodies: bytes) -> list[Step]:
    """Every step, each one transaction, of a walk through such deliveries of ten days ago."""
    came = now() - 10 * DAY
    group = [delivery(str(key), body, disposition="ignored") for key, body in enumerate(bodies)]
    store.database.write(lambda c: recording.record(c, group, now=came))
    taken = [store.retention.prune("deliveries", AGES)]
    while not taken[-1].is_end:
        taken.append(store.retention.prune("deliveries", AGES, after=taken[-1].reached))
    assert all(row.body == b"" for row in rows(store.database, Delivery))
    return taken


def test_transaction_takes_at_most_250_rows(store: Store) -> None:
    taken = [step.rows for step in steps(store, *[b"{}"] * 600)]
    assert sum(taken) == 600
    assert max(taken) <= 250


def test_transaction_takes_at_most_8_mb(store: Store) -> None:
    taken = [step.bytes for step in steps(store, *[b"x" * 3_000_000] * 3)]
    assert sum(taken) > 9_000_000
    assert max(taken) <= 8 * 1024 * 1024


def test_walk_stops_at_the_young(database: Database) -> None:
    record(database, "old-1", "old-2")
    record(database, "young", now=NOON + DAY)
    work_off(database, now=NOON + DAY)
    with database.read() as connection:
        now = NOON + 2 * DAY + timedelta(hours=1)
        found = retention.look(connection, "deliveries", AGES, after=0, now=now)
        assert (list(found.sizes), found.reached, found.is_end) == ([1, 2], 2, True)
        found = retention.look(connection, "deliveries", AGES, after=2, now=now)
        assert (list(found.sizes), found.reached, found.is_end) == ([], 2, True)
        found = retention.look(connection, "deliveries", AGES, after=2, now=now + DAY)
        assert (list(found.sizes), found.reached, found.is_end) == ([3], 3, False)


def test_the_walk_passes_what_must_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention.walk, "LOOK_ROWS", 2)
    record(database, *(f"event-{number}" for number in range(4)))
    work_off(database, outcome=jobs.bury)
    record(database, "event-4")
    work_off(database)
    assert prune(database) == {"attempts": 1, "deliveries": 1, "jobs": 1, "events": 1}
    assert len(rows(database, Event)) == 4


def test_replayed_jobs_do_not_stop_walk(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention.walk, "LOOK_ROWS", 2)
    record(database, "event-0", "event-1")
    work_off(database, outcome=jobs.bury)
    record(database, "event-2")
    work_off(database)
    for job_id in (1, 2):
        database.write(partial(jobs.replay, job_id=job_id, now=LATER))
    assert prune(database)["jobs"] == 1


def test_dry_run_reports_and_changes_nothing(store: Store) -> None:
    database = store.database
    record(database, "event-0", "event-1")
    work_off(database)
    record(database, "alive")
    store_results(database, run(output="old"), run("run-2"))
    store_results(database, run(output="new"), now=at(1))
    ages = replace(AGES, results=DAY, versions=DAY)
    before = contents(database)
    foretold = prune(database, ages, dry_run=True)
    assert contents(database) == before
    assert foretold == {
        "attempts": 2, "deliveries": 2, "jobs": 2, "events": 2, "versions": 1, "results": 3,
    }  # fmt: skip
    gone = prune(database, ages)
    assert gone == {**foretold, "results": 2}  # one of them went as a superseded version


def test_two_pruners_do_no_harm(database: Database) -> None:
    record(database, *(f"event-{number}" for number in range(600)))
    work_off(database)
    record(database, "alive")
    gone: list[dict[str, int]] = []
    pruners = [threading.Thread(target=lambda: gone.append(prune(database))) for _ in range(2)]
    for pruner in pruners:
        pruner.start()
    for pruner in pruners:
        pruner.join()
    prune(database)  # what each left to the other
    assert sum(each.get("deliveries", 0) for each in gone) <= 600
    assert [row.key for row in rows(database, Event)] == ["alive"]


@pytest.mark.postgres
def test_locked_rows_are_left_for_later(database: Database, made_url: str) -> None:
    """The intake, for one, holds an event to which it adds a delivery with its job."""
    record(database, "held", "free")
    work_off(database)
    with psycopg.connect(made_url) as other:
        other.execute("SELECT 1 FROM events WHERE key = 'held' FOR UPDATE")
        assert prune(database) == {"attempts": 2, "deliveries": 1, "jobs": 2, "events": 1}
    assert [row.key for row in rows(database, Event)] == ["held"]
    assert prune(database) == {"deliveries": 1, "events": 1}


def test_the_store_prunes_by_todays_clock(store: Store) -> None:
    ages = Ages(deliveries=DAY, attempts=DAY, events=4 * DAY)
    record(store.database, "event", now=now() - 2 * DAY, body=b"body")
    work_off(store.database, now=now())
    assert store.retention.keys_of("deliveries") == (1, 1)
    assert store.retention.keys_of("results") == (0, 0)
    foretold = store.retention.prune("deliveries", ages, dry_run=True)
    assert (foretold.rows, foretold.bytes) == (1, 4 + len("webhook-id: 1\n"))
    assert store.retention.prune("deliveries", ages) == foretold
    assert rows(store.database, Delivery)[0].body == b""
    assert store.retention.prune("deliveries", ages).rows == 0
    assert store.retention.prune("deliveries", ages, after=foretold.reached).is_end


# --- any sequence -------------------------------------------------------------------------------


@dataclass
class Known:
    """The model's knowledge of an event: when it was last delivered, and with which bodies."""

    last: datetime
    bodies: set[bytes] = field(default_factory=set)


class Retaining(RuleBasedStateMachine):
    """A sender that delivers again and again, workers, an operator, and a pruner."""

    open_database: Callable[[Path], Database]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = self.open_database(Path(self.folder.name))
        self.now = NOON
        self.events: dict[str, Known] = {}
        self.alive: dict[int, tuple[str, bytes]] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def statuses(self) -> dict[int, str]:
        return {row.id: row.status for row in rows(self.database, Job)}

    @rule(hours=st.sampled_from([1, 12, 30, 60, 121]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(key=st.sampled_from("abc"), body=st.sampled_from([b"", b"1", b"2"]))
    def deliver(self, key: str, body: bytes) -> None:
        """Within the sender's span the same again has no second effect; news have theirs."""
        before = self.statuses()
        outcomes = record(self.database, key, now=self.now, body=body)
        new = self.statuses().keys() - before.keys()
        known = self.events.get(key)
        if known is not None and self.now - known.last <= 5 * DAY:
            assert outcomes == ["duplicate"]
            assert len(new) == (body not in known.bodies)
        if known is None or outcomes == ["accepted"]:
            assert len(new) == 1
            known = self.events[key] = Known(self.now)
        known.last = self.now
        known.bodies.add(body)
        self.alive.update(dict.fromkeys(new, (key, body)))

    @rule(outcome=st.sampled_from([jobs.finish, jobs.bury]), limit=st.integers(1, 3))
    def work(self, outcome: Any, limit: int) -> None:
        for lease in claim(self.database, now=self.now, limit=limit):
            self.database.write(partial(outcome, lease=lease, outcome=tried(start=self.now)))
            if outcome is jobs.finish:
                del self.alive[lease.job_id]

    @rule()
    def claim_and_die(self) -> None:
        claim(self.database, now=self.now, limit=1)

    @rule()
    def release(self) -> None:
        self.database.write(lambda c: jobs.release(c, now=self.now))

    @rule()
    def replay(self) -> None:
        for job_id, status in self.statuses().items():
            if status == "dead":
                self.database.write(partial(jobs.replay, job_id=job_id, now=self.now))
                return

    @rule()
    def prune(self) -> None:
        foretold = prune(self.database, now=self.now, dry_run=True)
        assert prune(self.database, now=self.now) == foretold

    @rule(kind=st.sampled_from(KINDS))
    def prune_one_kind(self, kind: str) -> None:
        walk(self.database, kind, AGES, now=self.now)

    @invariant()
    def nothing_alive_is_lost(self) -> None:
        """Every job that waits, runs or is dead has its event, and the body that it came with."""
        kept = {row.id: row for row in rows(self.database, Job)}
        keys = {row.id: row.key for row in rows(self.database, Event)}
        bodies = {(keys[row.event_id], row.digest): row for row in rows(self.database, Delivery)}
        for job_id, (key, body) in self.alive.items():
            assert keys[kept[job_id].event_id] == key
            came = bodies[key, sha256(body).digest()]
            assert (came.body, came.pruned_at) == (body, None)


def test_pruning_never_repeats_effects_or_loses_live_rows(
    new_database: Callable[[Path], Database],
) -> None:
    machine = type("Machine", (Retaining,), {"open_database": staticmethod(new_database)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
    )
