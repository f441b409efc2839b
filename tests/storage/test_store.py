"""storage/store.py: what holds only across the nouns that a verb puts together."""

from storage import AttemptOutcome, FetchedBatch, Store, SubmittedRun, now
from storage.models import Job
from tests.storage.build import rows

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
