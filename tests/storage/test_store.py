"""storage/store/: what holds only across the nouns that a verb puts together."""

import psycopg
import pytest

from storage import AttemptOutcome, FetchedBatch, Store, SubmittedRun, now
from storage.models import Job
from tests import behind, databases
from tests.storage.build import rows

PROBES = "SELECT key FROM meta WHERE key LIKE 'probe%'"
ENDED = FetchedBatch("batch-1", "completed", is_terminal=True, total=0, ended=0)


def test_growth_during_check_end_is_watched(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="batch-1")
    store.batches.check("valyu", "batch-1")
    (check,) = store.jobs.claim("valyu", limit=1)
    store.batches.save(check, ENDED)
    assert store.batches.settle(check, ENDED).state == "complete"
    store.batches.add_runs("valyu", "batch-1", [SubmittedRun("run-1", None, {"query": "late"})])
    store.jobs.finish(check, AttemptOutcome(now(), 1.0, "done"))
    states = [(job.kind, job.status) for job in rows(store.database, Job)]
    assert sorted(states) == [("check", "done"), ("check", "pending")]


@pytest.mark.postgres
def test_probe_waits_for_no_frozen_process(store: Store, made_url: str) -> None:
    """A process that is frozen within its probe holds the row until the server ends it."""
    store.probe()
    with psycopg.connect(made_url) as frozen:
        frozen.execute(f"{PROBES} FOR UPDATE")
        store.probe()  # would wait for the row until its limit
        with databases.opened(made_url) as other:
            other.probe()
    for _ in range(3):
        store.probe()
    assert len(behind.execute(made_url, PROBES)) == 2


def test_probe_writes_the_same_row_again(store: Store, made_url: str) -> None:
    value = PROBES.replace("key", "value", 1)
    store.probe()
    (before,) = behind.execute(made_url, value)
    store.probe()
    (after,) = behind.execute(made_url, value)
    assert before != after
