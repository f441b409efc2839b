"""Any sequence of transitions against a model: nothing is lost, nobody writes without a lease."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from storage import LeaseLost, NotFound, jobs
from storage.database import Database
from storage.jobs import MAX_CLAIMS
from storage.jobs.claims import SUSPECT_CLAIMS
from storage.jobs.lease import LEASE_SECONDS, Lease
from storage.models import Job
from tests.storage.build import NOON, claim, enqueue, rows, tried


@dataclass
class Expected:
    """The row that the table must hold of one job."""

    due: datetime
    claims: int
    status: str = "pending"
    failures: int = 0
    token: str | None = None
    until: datetime | None = None

    def move(self, status: str, *, claims: int = 0, due: datetime | None = None) -> None:
        self.status, self.claims, self.token, self.until = status, claims, None, None
        self.due = due or self.due


class Jobs(RuleBasedStateMachine):
    """Workers that claim, lose, finish and die, beside an operator who replays."""

    open_database: Callable[[Path], Database]
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = self.open_database(Path(self.folder.name))
        self.now = NOON
        self.jobs: dict[int, Expected] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @rule(delay=st.sampled_from([0, 1, 30]), claims=st.sampled_from([0, 3, MAX_CLAIMS - 1]))
    def enqueue(self, delay: int, claims: int) -> None:
        due = self.now + timedelta(seconds=delay)
        self.jobs[enqueue(self.database, due=due, claims=claims)] = Expected(due, claims)

    @rule(seconds=st.sampled_from([1, 5, 15, 300]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(target=leases, limit=st.integers(1, 3))
    def claim(self, limit: int) -> MultipleResults[Lease]:
        expected = self.due()[:limit]
        got = claim(self.database, now=self.now, limit=limit)
        assert {lease.job_id for lease in got} == set(expected)
        for lease in got:
            job = self.jobs[lease.job_id]
            job.status, job.token, job.claims = "running", lease.token, job.claims + 1
            job.until = self.now + timedelta(seconds=LEASE_SECONDS)
        return multiple(*got)

    def due(self) -> list[int]:
        """The longest due first, and among those that kill workers only the first of all."""
        waiting = sorted(
            (job.due, job_id)
            for job_id, job in self.jobs.items()
            if job.status == "pending" and job.due <= self.now
        )
        suspects = [job_id for _, job_id in waiting if self.jobs[job_id].claims >= SUSPECT_CLAIMS]
        watched = any(
            job.status == "running" and job.claims > SUSPECT_CLAIMS for job in self.jobs.values()
        )
        spared = suspects if watched else suspects[1:]
        return [job_id for _, job_id in waiting if job_id not in spared]

    def held(self, lease: Lease) -> Expected | None:
        job = self.jobs[lease.job_id]
        return job if job.token == lease.token else None

    def write(self, lease: Lease, transition: Callable[..., None], **how: object) -> bool:
        """Make a fenced transition; says whether the lease allowed it, as the model expects."""
        outcome = tried(start=self.now)
        try:
            self.database.write(lambda c: transition(c, lease, outcome, **how))
        except LeaseLost:
            assert self.held(lease) is None
            return False
        assert self.held(lease) is not None
        return True

    @rule(lease=leases)
    def finish(self, lease: Lease) -> None:
        if self.write(lease, jobs.finish):
            self.jobs[lease.job_id].move("done")

    @rule(lease=leases)
    def bury(self, lease: Lease) -> None:
        if self.write(lease, jobs.bury):
            self.jobs[lease.job_id].move("dead")

    @rule(lease=leases, after=st.sampled_from([0, 2, 60]), failed=st.booleans())
    def reschedule(self, lease: Lease, after: int, failed: bool) -> None:
        if self.write(lease, jobs.reschedule, after=after, failed=failed):
            job = self.jobs[lease.job_id]
            job.move("pending", due=self.now + timedelta(seconds=after))
            job.failures += failed

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        self.database.write(lambda c: jobs.renew(c, [lease], now=self.now))
        if job := self.held(lease):
            job.until = self.now + timedelta(seconds=LEASE_SECONDS)

    @rule(lease=leases)
    def give_back(self, lease: Lease) -> None:
        self.database.write(lambda c: jobs.give_back(c, [lease], now=self.now))
        if job := self.held(lease):
            job.move("pending", claims=job.claims - 1, due=self.now)

    @rule(all_of_them=st.booleans())
    def release(self, all_of_them: bool) -> None:
        released = 0
        for job in self.jobs.values():
            if job.until is None or (job.until > self.now and not all_of_them):
                continue
            released += 1
            later = self.now + timedelta(seconds=5 if job.claims <= 6 else 30)
            if job.claims >= MAX_CLAIMS:
                job.move("dead", claims=job.claims)
            else:
                job.move("pending", claims=job.claims, due=None if job.claims <= 3 else later)
        work = lambda c: jobs.release(c, now=self.now, all_of_them=all_of_them)  # noqa: E731
        assert self.database.write(work) == released

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs) or [1]))
        if job_id in self.jobs and self.jobs[job_id].status == "dead":
            self.database.write(lambda c: jobs.replay(c, job_id, now=self.now))
            self.jobs[job_id] = Expected(self.now, claims=0)
        else:
            with pytest.raises(NotFound):
                self.database.write(lambda c: jobs.replay(c, job_id, now=self.now))

    @invariant()
    def the_table_is_as_expected(self) -> None:
        """Every job is in the one state that the model knows, with one valid lease at most."""
        found = {
            row.id: Expected(
                row.next_attempt_at,
                row.claims,
                row.status,
                row.failures,
                row.lease_token,
                row.lease_until,
            )
            for row in rows(self.database, Job)
        }
        assert found == self.jobs


def test_any_transition_sequence_keeps_known_states(
    new_database: Callable[[Path], Database],
) -> None:
    machine = type("Machine", (Jobs,), {"open_database": staticmethod(new_database)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
    )
