"""A job that kills its worker ends as a dead letter; the innocent around it do not.

The same store and state machine as in the other tests here, with the time given: by the clock, ten
claims without an outcome take a quarter of an hour.
"""

import threading
from datetime import datetime, timedelta
from hashlib import sha256

import pytest

from storage import AttemptOutcome, FetchedRun, Lease, Progress, Store, VerifiedDelivery, jobs, now

SLOTS = 8
WORK = timedelta(seconds=2)
POISON = "batch 0"


class Workers:
    """Workers that die, one after the other, whenever they hold the poison."""

    def __init__(self, store: Store, count: int) -> None:
        self.store = store
        self.time: datetime = now() + timedelta(seconds=1)
        committed = threading.Event()
        group = [_delivery(f"batch {number}") for number in range(count)]
        store.deliveries.record(group, lambda outcomes, error: committed.set())
        assert committed.wait(30)

    def claim(self) -> list[Lease]:
        self.time += WORK
        return self.store.database.write(
            lambda connection: jobs.claim(connection, "valyu", limit=SLOTS, now=self.time)
        )

    def die(self) -> None:
        """The next process finds what this one held."""
        self.time += WORK
        self.store.database.write(
            lambda connection: jobs.release(connection, now=self.time, all_of_them=True)
        )

    def live(self) -> None:
        """Claim and work, or die of it."""
        leases = self.claim()
        if any(lease.subject == POISON for lease in leases):
            self.die()
            return
        for lease in leases:
            self.store.jobs.finish(lease, AttemptOutcome(self.time, 1.0, "done"))

    def buried(self) -> list[str]:
        return sorted(str(row["subject"]) for row in self.store.jobs.list_dead())


def _delivery(subject: str) -> VerifiedDelivery:
    return VerifiedDelivery(
        source="valyu",
        endpoint_id=None,
        key=subject,
        disposition="fetch",
        subject_kind="batch",
        subject=subject,
        headers="",
        body=subject.encode(),
        digest=sha256(subject.encode()).digest(),
    )


@pytest.mark.parametrize("count", [SLOTS, 50])
def test_worker_killing_job_is_buried_alone(store: Store, count: int) -> None:
    workers = Workers(store, count)
    while not workers.buried():
        workers.live()
    assert workers.buried() == [POISON]


def test_advancing_job_survives_kills(store: Store) -> None:
    """A long listing under frequent kills: every life brings a page, so none is wasted."""
    workers = Workers(store, 1)
    for number in range(2 * jobs.MAX_CLAIMS):
        workers.time += timedelta(minutes=5)
        for lease in workers.claim():
            run = FetchedRun(f"run {number}", "completed", "completed", {}, output="report")
            reached: Progress = {"refusals": number}
            store.results.store(lease, [run], fetched_at=workers.time, progress=reached)
        workers.die()
    assert workers.buried() == []
