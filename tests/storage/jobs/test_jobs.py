"""The state machine: every transition, every forbidden one, and the fence of the leases."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete

import storage
from storage import FetchedBatch, LeaseLost, NotFound, Store, jobs
from storage.database import Database
from storage.jobs import MAX_CLAIMS, checks, pauses
from storage.jobs.claims import SUSPECT_CLAIMS
from storage.jobs.lease import LEASE_SECONDS, AttemptOutcome, Lease
from storage.models import Attempt, Job
from tests.storage.build import (
    NOON,
    at,
    claim,
    claimed,
    contents,
    enqueue,
    job,
    rows,
    run,
    tried,
)

STATES = ("pending", "running", "done", "dead", "abandoned")

VERBS: dict[str, Callable[..., Any]] = {
    "claim": lambda c, lease: jobs.claim(c, "valyu", limit=9, now=NOON),
    "renew": lambda c, lease: jobs.renew(c, [lease], now=at(1)),
    "save_progress": lambda c, lease: jobs.save_progress(c, lease, {"refusals": 2}),
    "finish": lambda c, lease: jobs.finish(c, lease, tried()),
    "reschedule": lambda c, lease: jobs.reschedule(c, lease, tried(), after=9, failed=True),
    "bury": lambda c, lease: jobs.bury(c, lease, tried()),
    "put_back": lambda c, lease: jobs.put_back(c, lease, tried()),
    "give_back": lambda c, lease: jobs.give_back(c, [lease], now=NOON),
    "release": lambda c, lease: jobs.release(c, now=NOON),
    "replay": lambda c, lease: jobs.replay(c, lease.job_id, now=NOON),
    "hurry": lambda c, lease: checks.hurry(c, "run", "valyu", "run-1", due=at(-1), by="wait"),
    "end_checks": lambda c, lease: checks.end(c, endpoint_id=lease.endpoint_id, now=NOON),
}

ALLOWED = {
    ("pending", "claim"): "running",
    ("pending", "hurry"): "pending",
    ("pending", "end_checks"): "done",
    ("running", "renew"): "running",
    ("running", "save_progress"): "running",
    ("running", "finish"): "done",
    ("running", "reschedule"): "pending",
    ("running", "bury"): "dead",
    ("running", "put_back"): "pending",
    ("running", "acquit"): "running",
    ("running", "give_back"): "pending",
    ("running", "release"): "pending",
    ("dead", "replay"): "pending",
}

SAYS_NO = {
    "save_progress": LeaseLost,
    "finish": LeaseLost,
    "reschedule": LeaseLost,
    "bury": LeaseLost,
    "put_back": LeaseLost,
    "acquit": LeaseLost,
    "replay": NotFound,
}


def a_check(database: Database, state: str) -> Lease:
    """A due check in `state`, with a token left in it that the lease returned here would fit."""
    job_id = enqueue(
        database,
        kind="check",
        endpoint_id=state,
        status=state,
        claims=1,
        lease_token="token",  # noqa: S106  no secret
        lease_until=NOON,
    )
    return Lease(job_id, "token", "check", "valyu", "run", "run-1", state, None, 0, 0, {}, NOON)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_makes_only_its_transitions(database: Database, verb: str) -> None:
    for state in STATES:
        lease = a_check(database, state)
        before = contents(database)
        allowed = (state, verb) in ALLOWED
        refusal = None if allowed else SAYS_NO.get(verb)
        with pytest.raises(refusal) if refusal else nullcontext():
            database.write(partial(VERBS[verb], lease=lease))
        assert job(database, lease.job_id).status == ALLOWED.get((state, verb), state)
        assert (contents(database) != before) is allowed
        database.write(lambda c: c.execute(delete(Attempt)))
        database.write(lambda c: c.execute(delete(Job)))


# --- the fence ----------------------------------------------------------------------------------

BATCH = FetchedBatch("batch-1", "completed", is_terminal=True, total=0, ended=0)

FENCED: dict[str, Callable[[Store, Lease], Any]] = {
    "finish": lambda s, lease: s.jobs.finish(lease, tried()),
    "bury": lambda s, lease: s.jobs.bury(lease, tried()),
    "reschedule": lambda s, lease: s.jobs.reschedule(
        lease, tried(), after=1, failed=True, answered=True
    ),
    "pause_source": lambda s, lease: s.sources.pause(lease, tried(), after=1),
    "save_batch": lambda s, lease: s.batches.save(lease, BATCH),
    "settle_batch": lambda s, lease: s.batches.settle(lease, BATCH),
    "store_results": lambda s, lease: s.results.store(
        lease, [run()], fetched_at=NOON, progress={"refusals": 2}
    ),
    "save_progress": lambda s, lease: s.database.write(
        lambda c: jobs.save_progress(c, lease, {"refusals": 2})
    ),
}


@pytest.mark.parametrize("verb", FENCED)
def test_whoever_lost_the_lease_writes_nothing(store: Store, verb: str) -> None:
    endpoint = store.endpoints.add("valyu", "batch", resource="batch-1")
    store.database.write(lambda c: pauses.pause(c, "valyu", "key", after=0, now=NOON))
    lost = claimed(store.database, endpoint_id=endpoint)
    store.jobs.take_over()
    (held,) = store.database.write(lambda c: jobs.claim(c, "valyu", limit=1, now=storage.now()))
    assert held.job_id == lost.job_id
    before = contents(store.database)
    with pytest.raises(LeaseLost):
        FENCED[verb](store, lost)
    assert contents(store.database) == before


@pytest.mark.parametrize("verb", FENCED)
def test_whoever_holds_the_lease_writes(store: Store, verb: str) -> None:
    store.endpoints.add("valyu", "batch", resource="batch-1")
    held = claimed(store.database)
    before = contents(store.database)
    FENCED[verb](store, held)
    assert contents(store.database) != before


def test_lost_lease_cannot_be_renewed_or_returned(database: Database) -> None:
    lost = claimed(database)
    database.write(lambda c: jobs.release(c, now=NOON, all_of_them=True))
    claim(database)
    before = contents(database)
    database.write(lambda c: jobs.renew(c, [lost], now=at(60)))
    database.write(lambda c: jobs.give_back(c, [lost], now=at(60)))
    assert contents(database) == before


# --- claims -------------------------------------------------------------------------------------


def test_claim_takes_longest_due_first(database: Database) -> None:
    late, first, second = (enqueue(database, due=at(-age)) for age in (1, 3, 2))
    assert {lease.job_id for lease in claim(database, limit=2)} == {first, second}
    assert [lease.job_id for lease in claim(database, limit=2)] == [late]


def test_claim_takes_only_due_jobs(database: Database) -> None:
    enqueue(database, due=at(0.001))
    assert claim(database, now=NOON) == []
    assert len(claim(database, now=at(0.001))) == 1


def test_claim_takes_only_its_source(database: Database) -> None:
    enqueue(database, source="parallel")
    assert claim(database, source="valyu") == []
    assert len(claim(database, source="parallel")) == 1


def test_claim_without_free_slots_takes_nothing(database: Database) -> None:
    enqueue(database)
    assert claim(database, limit=0) == []


def test_a_lease_says_what_to_do(database: Database) -> None:
    values: dict[str, Any] = {"subject_kind": "batch", "subject": "b", "endpoint_id": "e"}
    values["progress"] = {"refusals": 3}
    lease = claimed(database, failures=2, waits=1, **values)
    assert {name: getattr(lease, name) for name in values} == values
    assert (lease.kind, lease.source, lease.failures, lease.waits) == ("fetch", "valyu", 2, 1)
    assert (lease.created_at, lease.event_id) == (NOON, None)


def test_recovered_jobs_run_one_at_a_time(
    database: Database,
) -> None:
    first, second = (enqueue(database, claims=SUSPECT_CLAIMS, due=at(-age)) for age in (2, 1))
    innocent = enqueue(database, claims=SUSPECT_CLAIMS - 1)
    suspect, other = sorted(claim(database), key=lambda lease: lease.job_id)
    assert (suspect.job_id, other.job_id) == (first, innocent)
    assert claim(database) == []
    database.write(lambda c: jobs.finish(c, suspect, tried()))
    assert [lease.job_id for lease in claim(database)] == [second]


def test_two_claims_never_share_a_token(database: Database) -> None:
    enqueue(database)
    enqueue(database)
    (one,), (other,) = claim(database, limit=1), claim(database, limit=1)
    assert one.token != other.token
    assert one.job_id != other.job_id


def test_renewal_prolongs_the_lease(database: Database) -> None:
    lease = claimed(database)
    assert job(database, lease.job_id).lease_until == at(LEASE_SECONDS)
    database.write(lambda c: jobs.renew(c, iter([lease]), now=at(5)))
    assert database.write(lambda c: jobs.release(c, now=at(LEASE_SECONDS + 4))) == 0
    assert database.write(lambda c: jobs.release(c, now=at(LEASE_SECONDS + 5))) == 1


# --- outcomes -----------------------------------------------------------------------------------


def test_every_outcome_is_an_attempt_row(database: Database) -> None:
    lease = claimed(database)
    retry = tried("failed", "503", start=at(1))
    database.write(lambda c: jobs.reschedule(c, lease, retry, after=0, failed=True))
    (again,) = claim(database, now=at(1))
    database.write(lambda c: jobs.finish(c, again, tried("done", start=at(2))))
    kept = [(row.started_at, row.outcome, row.detail) for row in rows(database, Attempt)]
    assert kept == [(at(1), "failed", "503"), (at(2), "done", None)]


def test_failure_counts_and_resets_waits(database: Database) -> None:
    lease = claimed(database, failures=2, waits=4)
    database.write(lambda c: jobs.reschedule(c, lease, tried(), after=30, failed=True))
    after = job(database, lease.job_id)
    assert (after.failures, after.waits, after.next_attempt_at) == (3, 0, at(30))


def test_a_wait_is_no_failure(database: Database) -> None:
    lease = claimed(database, failures=2, waits=4)
    database.write(lambda c: jobs.reschedule(c, lease, tried(), after=30, failed=False))
    after = job(database, lease.job_id)
    assert (after.failures, after.waits) == (2, 5)


def test_delay_runs_from_end_of_attempt(database: Database) -> None:
    lease = claimed(database)
    slow = AttemptOutcome(at(10), 2_500.0, "failed")
    database.write(lambda c: jobs.reschedule(c, lease, slow, after=30, failed=True))
    assert job(database, lease.job_id).next_attempt_at == at(42.5)


def test_a_dead_letter_keeps_its_reason(database: Database) -> None:
    lease = claimed(database)
    database.write(lambda c: jobs.bury(c, lease, tried("dead", "404 for 15 minutes")))
    after = job(database, lease.job_id)
    assert (after.status, after.reason, after.ended_at) == ("dead", "404 for 15 minutes", NOON)


def test_finished_job_keeps_no_reason(database: Database) -> None:
    lease = claimed(database, reason="503")
    database.write(lambda c: jobs.finish(c, lease, tried()))
    assert job(database, lease.job_id).reason is None


def test_first_vain_attempt_is_remembered(database: Database) -> None:
    lease = claimed(database)
    assert lease.trying_since is None
    for second, failed in enumerate((False, True, False)):
        outcome = tried(start=at(second))
        how: dict[str, Any] = {"outcome": outcome, "after": 0.0, "failed": failed}
        database.write(partial(jobs.reschedule, lease=lease, **how))
        (lease,) = claim(database, now=at(second))
        assert lease.trying_since == NOON


UNKNOWN: dict[str, Any] = {"after": 0.0, "failed": True, "answered": True}
KNOWN: dict[str, Any] = {"after": 0.0, "failed": False, "answered": True}
SILENT: dict[str, Any] = {"after": 0.0, "failed": False}


@pytest.mark.parametrize(
    ("answers", "since"),
    [
        ([UNKNOWN], 0),
        ([UNKNOWN, UNKNOWN], 0),
        ([UNKNOWN, SILENT], 0),
        ([UNKNOWN, KNOWN], None),
        ([UNKNOWN, KNOWN, UNKNOWN], 2),
        ([SILENT], None),
    ],
)
def test_subject_is_missing_until_known(
    database: Database, answers: list[dict[str, Any]], since: int | None
) -> None:
    lease = claimed(database)
    for second, answer in enumerate(answers):
        outcome = tried(start=at(second))
        database.write(partial(jobs.reschedule, lease=lease, outcome=outcome, **answer))
        (lease,) = claim(database, now=at(second))
    assert lease.missing_since == (None if since is None else at(since))


def test_job_put_back_is_due_uncounted(database: Database) -> None:
    lease = claimed(database, failures=2, waits=4)
    refused = AttemptOutcome(at(10), 2_500.0, "paused", "401")
    database.write(lambda c: jobs.put_back(c, lease, refused))
    after = job(database, lease.job_id)
    assert (after.failures, after.waits, after.claims) == (2, 4, 0)
    assert (after.next_attempt_at, after.reason, after.trying_since) == (at(12.5), "401", None)
    assert [row.outcome for row in rows(database, Attempt)] == ["paused"]


def test_returned_job_is_due_unclaimed(
    database: Database,
) -> None:
    lease = claimed(database, claims=4)
    database.write(lambda c: jobs.give_back(c, iter([lease]), now=at(7)))
    after = job(database, lease.job_id)
    assert (after.claims, after.next_attempt_at) == (4, at(7))


# --- leases that ran out ------------------------------------------------------------------------


def test_job_killing_its_workers_is_buried(database: Database) -> None:
    job_id, moment, claims = enqueue(database), NOON, 0
    while claim(database, now=moment):
        claims += 1
        moment += timedelta(seconds=LEASE_SECONDS)
        assert database.write(partial(jobs.release, now=moment)) == 1
        moment += timedelta(minutes=5)
    assert claims == MAX_CLAIMS
    after = job(database, job_id)
    assert (after.status, after.lease_token) == ("dead", None)
    assert "workers ended without an outcome" in after.reason


@pytest.mark.parametrize("claims", [1, 3])
def test_job_of_lost_worker_keeps_due_time(database: Database, claims: int) -> None:
    """Not behind everything that has come since: it has waited longest."""
    lease = claimed(database, claims=claims - 1)
    database.write(lambda c: jobs.release(c, now=at(15)))
    assert job(database, lease.job_id).next_attempt_at == NOON


@pytest.mark.parametrize(("claims", "wait"), [(4, 5), (6, 5), (7, 30)])
def test_job_losing_workers_often_waits(database: Database, claims: int, wait: int) -> None:
    lease = claimed(database, claims=claims - 1)
    database.write(lambda c: jobs.release(c, now=at(15)))
    assert job(database, lease.job_id).next_attempt_at == at(15 + wait)


@pytest.mark.parametrize("failed", [True, False])
def test_outcome_resets_the_claim_count(database: Database, failed: bool) -> None:
    lease = claimed(database, claims=8)
    database.write(lambda c: jobs.reschedule(c, lease, tried(), after=0, failed=failed))
    assert job(database, lease.job_id).claims == 0


def test_start_releases_unexpired_leases(database: Database) -> None:
    claimed(database)
    assert database.write(lambda c: jobs.release(c, now=NOON)) == 0
    assert database.write(lambda c: jobs.release(c, now=NOON, all_of_them=True)) == 1


def test_a_release_leaves_the_progress(database: Database) -> None:
    lease = claimed(database)
    database.write(lambda c: jobs.save_progress(c, lease, {"batch": "x"}))
    database.write(lambda c: jobs.release(c, now=at(15)))
    (again,) = claim(database, now=at(15))
    assert again.progress == {"batch": "x"}


HOSTILE: Any = {"cursor": "a\x00b", "looks": {"\ud800": float("nan")}, "page": 2}
MILD = {"cursor": "a\ufffdb", "looks": {"\ufffd": None}, "page": 2}


@pytest.mark.parametrize("verb", ["save_progress", "store_results"])
def test_progress_may_hold_any_text(store: Store, verb: str) -> None:
    lease = claimed(store.database, progress=HOSTILE)
    assert lease.progress == MILD
    lease.progress = {}
    if verb == "save_progress":
        store.database.write(lambda c: jobs.save_progress(c, lease, HOSTILE))
    else:
        store.results.store(lease, [run()], fetched_at=NOON, progress=HOSTILE)
    assert job(store.database, lease.job_id).progress == MILD


# --- replay -------------------------------------------------------------------------------------


def test_replay_starts_fresh_and_is_recorded(database: Database) -> None:
    used: dict[str, Any] = {"failures": 7, "waits": 3, "progress": {"a": 1}, "trying_since": NOON}
    job_id = enqueue(database, status="dead", claims=10, missing_since=NOON, **used)
    database.write(lambda c: jobs.replay(c, job_id, now=at(60)))
    (lease,) = claim(database, now=at(60))
    assert (lease.failures, lease.waits, lease.progress) == (0, 0, {})
    assert lease.found_by == "hand"
    assert (lease.created_at, lease.trying_since, lease.missing_since) == (at(60), None, None)
    assert job(database, job_id).claims == 1
    assert [row.outcome for row in rows(database, Attempt)] == ["replayed"]


def test_replay_without_subject_is_refused(database: Database) -> None:
    job_id = enqueue(database, status="dead", subject=None)
    with pytest.raises(NotFound, match=f"no dead letter {job_id}"):
        database.write(lambda c: jobs.replay(c, job_id, now=NOON))


def test_replay_of_unknown_job_is_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        store.jobs.replay(404)


def test_dead_check_not_replayed_beside_live_one(database: Database) -> None:
    dead = enqueue(database, kind="check", endpoint_id="e", status="dead")
    enqueue(database, kind="check", endpoint_id="e")
    with pytest.raises(NotFound, match="another check"):
        database.write(lambda c: jobs.replay(c, dead, now=NOON))
