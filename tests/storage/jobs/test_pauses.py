"""Pauses: a source that refused us is left alone but for one probe now and then."""

from datetime import datetime
from functools import partial
from typing import Any

import pytest

import storage
from storage import Store, jobs
from storage.jobs import pauses
from storage.models import Job, SourceState
from tests.storage.build import (
    NOON,
    at,
    claim,
    claimed,
    enqueue,
    job,
    rows,
    tried,
)


def pause(store: Store, *, after: float, now: datetime = NOON, reason: str = "401") -> None:
    store.database.write(lambda c: pauses.pause(c, "valyu", reason, after=after, now=now))


def test_paused_source_waits_for_its_probe(store: Store) -> None:
    enqueue(store.database)
    pause(store, after=3_600, now=storage.now())
    assert store.jobs.claim("valyu", limit=5) == []
    store.sources.probe_now()
    assert len(store.jobs.claim("valyu", limit=5)) == 1


def test_paused_source_sends_one_probe_only(store: Store) -> None:
    enqueue(store.database)
    enqueue(store.database)
    pause(store, after=0)
    assert [len(store.jobs.claim("valyu", limit=5)) for _ in range(3)] == [1, 0, 0]


def probe(store: Store, *, now: datetime = NOON) -> None:
    store.database.write(lambda c: pauses.note_probe(c, "valyu", now=now))


def test_pause_keeps_start_and_doubles(store: Store) -> None:
    pause(store, after=60)
    assert rows(store.database, SourceState)[0].probe_at == at(60)
    probe(store, now=at(60))
    pause(store, after=60, now=at(61), reason="402")
    (state,) = rows(store.database, SourceState)
    assert (state.paused_reason, state.paused_at) == ("402", NOON)
    assert (state.probe_at, state.probes) == (at(61 + 120), 1)


def test_simultaneous_refusals_lengthen_no_pause(store: Store) -> None:
    for _ in range(8):
        enqueue(store.database)
    for second, lease in enumerate(claim(store.database)):
        store.database.write(partial(jobs.put_back, lease=lease, outcome=tried("paused")))
        pause(store, after=60, now=at(second))
    (state,) = rows(store.database, SourceState)
    assert (state.paused_at, state.probe_at) == (NOON, at(7 + 60))


def test_pause_is_capped_at_an_hour(store: Store) -> None:
    pause(store, after=60)
    for _ in range(20):
        probe(store)
        pause(store, after=60)
    assert rows(store.database, SourceState)[0].probe_at == at(3_600)


def test_pause_does_not_age_its_jobs(store: Store) -> None:
    jobs_of_all_kinds: list[dict[str, Any]] = [
        {},
        {"status": "running"},
        {"status": "dead"},
        {"source": "parallel"},
    ]
    waiting, running, ended, other = (
        enqueue(store.database, trying_since=NOON, **more) for more in jobs_of_all_kinds
    )
    pause(store, after=60)
    since = {row.id: row.trying_since for row in rows(store.database, Job)}
    assert since == {waiting: None, running: NOON, ended: NOON, other: NOON}


def test_refused_job_is_put_back_unfailed(store: Store) -> None:
    lease = claimed(store.database)
    store.sources.pause(lease, tried("paused", "401: the key is wrong"), after=3_600)
    (paused,) = store.sources.list_paused()
    assert (paused["source"], paused["paused_reason"]) == ("valyu", "401: the key is wrong")
    after = job(store.database, lease.job_id)
    assert (after.status, after.failures, after.waits, after.claims) == ("pending", 0, 0, 0)


def test_pause_leaves_other_sources(store: Store) -> None:
    enqueue(store.database, source="parallel")
    pause(store, after=3_600, now=storage.now())
    assert len(store.jobs.claim("parallel", limit=5)) == 1


def test_success_resumes_the_source(store: Store) -> None:
    lease = claimed(store.database)
    pause(store, after=0)
    store.jobs.finish(lease, tried())
    assert store.sources.list_paused() == []


@pytest.mark.parametrize(("answered", "paused"), [(True, 0), (False, 1)])
def test_only_an_answer_resumes_the_source(store: Store, answered: bool, paused: int) -> None:
    lease = claimed(store.database)
    pause(store, after=0)
    store.jobs.reschedule(lease, tried(), after=1, failed=False, answered=answered)
    assert len(store.sources.list_paused()) == paused
