"""Jobs from the claim to their end."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from storage import clock, jobs
from storage.batches import batches
from storage.batches.batches import Watched
from storage.database import Database
from storage.database.call_group import CallGroup
from storage.deliveries import dead_letters
from storage.deliveries.dead_letters import DeadLetter
from storage.encryption import Vault
from storage.jobs import checks, overdue, pauses
from storage.jobs.lease import AttemptOutcome, Lease
from storage.models import FoundBy
from storage.store.check_jobs import watch
from storage.store.part import StorePart

log = logging.getLogger(__name__)


class JobStore(StorePart):
    """Jobs from the claim to their end."""

    def __init__(self, database: Database, vault: Vault, *, first_check: timedelta) -> None:
        super().__init__(database, vault, first_check=first_check)
        self._ends: CallGroup[tuple[Lease, AttemptOutcome], None] = CallGroup(self._finish_all)
        self._hurry_again_at = math.inf

    def claim(self, source: str, *, limit: int, slots: int | None = None) -> list[Lease]:
        """Claim up to `limit` due jobs; only one, as a probe, where the source is paused.

        `slots` is how many jobs of the source may run at once, over all processes.
        """
        return self._claim(source, partial(jobs.claim, slots=slots), limit=limit)

    def claim_these(
        self, source: str, job_ids: Sequence[int], *, limit: int, slots: int, by: FoundBy
    ) -> list[Lease]:
        """Claim those of these jobs that are pending, due or not; otherwise like `claim`.

        What they bring was found `by` whoever looks now.
        """
        choose = partial(jobs.claim_these, job_ids=job_ids, slots=slots, by=by)
        return self._claim(source, choose, limit=limit)

    def _claim(self, source: str, choose: Callable[..., list[Lease]], *, limit: int) -> list[Lease]:
        def work(connection: Connection) -> list[Lease]:
            jobs.lock_claims(connection, source)
            moment = self._now()
            state = pauses.state(connection, source)
            if state is None:
                return choose(connection, source, limit=limit, now=moment)
            if state.probe_at > moment:
                return []
            probes = choose(connection, source, limit=1, now=moment)
            if probes:
                pauses.note_probe(connection, source, now=moment)
            return probes

        return self._database.write(work)

    def statuses(self, job_ids: Sequence[int]) -> dict[int, str]:
        """Return the status of each of these jobs."""
        with self._database.read() as connection:
            return jobs.statuses(connection, job_ids)

    def renew(self, leases: Sequence[Lease]) -> None:
        """Prolong the leases that are still held."""
        self._database.write(lambda c: jobs.renew(c, leases, now=self._now()))

    def finish(self, lease: Lease, outcome: AttemptOutcome) -> None:
        """End a job that is done; its source is no longer paused. Raises LeaseLost."""
        self._ends.call((lease, outcome))

    def _finish_all(self, group: Sequence[tuple[Lease, AttemptOutcome]]) -> list[Exception | None]:
        def work(connection: Connection) -> list[Exception | None]:
            leases = sorted((lease for lease, _ in group), key=_subject)
            known = {lease.key: _batches_of(connection, lease) for lease in leases}
            ours = jobs.finish_all(connection, group)
            for source in sorted({lease.source for lease in leases if lease.key in ours}):
                pauses.resume(connection, source)
            for key in ours:
                self._watch_again(connection, known[key])
            return [None if lease.key in ours else jobs.lost(lease) for lease, _ in group]

        return self._database.write(work)

    def _watch_again(self, connection: Connection, known: Sequence[Watched]) -> None:
        """Have batches checked that grew while their job ended, since no other job would."""
        for batch in known:
            watch(connection, batch, self._now(), first=self._first_check)

    def reschedule(
        self, lease: Lease, outcome: AttemptOutcome, *, after: float, failed: bool, answered: bool
    ) -> None:
        """Make a job due again in `after` seconds; raises LeaseLost.

        `answered` means that the sender answered, so that a paused source is resumed.
        """

        def work(connection: Connection) -> None:
            jobs.reschedule(
                connection, lease, outcome, after=after, failed=failed, answered=answered
            )
            if answered:
                pauses.resume(connection, lease.source)

        self._database.write(work)

    def bury(self, lease: Lease, outcome: AttemptOutcome) -> None:
        """End a job as a dead letter; raises LeaseLost. Its batch still has a check."""

        def work(connection: Connection) -> None:
            known = [] if lease.kind == "check" else _batches_of(connection, lease)
            jobs.bury(connection, lease, outcome)
            self._watch_again(connection, known)

        self._database.write(work)

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return claimed jobs without an attempt."""
        self._database.write(lambda c: jobs.give_back(c, leases, now=self._now()))

    def release_expired(self) -> int:
        """Release the jobs whose lease has run out; returns how many."""
        return self._release(all_of_them=False)

    def take_over(self) -> int:
        """Release what earlier processes left when they ended; returns how many jobs.

        Where one process alone works on a database, these are all running jobs.
        """
        return self._release(all_of_them=not self._database.is_shared)

    def _release(self, *, all_of_them: bool) -> int:
        """Release jobs, and note the clock, by which leases run out."""

        def work(connection: Connection) -> tuple[timedelta | None, int]:
            moment = self._database.look_at_clock(connection)
            back = clock.gone_back(connection, now=moment)
            return back, jobs.release(connection, now=moment, all_of_them=all_of_them)

        back, released = self._database.write(work)
        if back is not None:
            self._follow_back(back)
        elif time.monotonic() >= self._hurry_again_at and self._hurry_all():
            self._hurry_again_at = math.inf
        return released

    def _follow_back(self, back: timedelta) -> None:
        log.warning("the clock went back by %s: all waiting jobs are due at once", back)
        if not self._hurry_all():
            return  # the time is not noted yet, so that the next look goes on
        self._database.write(lambda c: clock.note(c, now=self._now()))
        if self._database.is_shared:  # what others stored by the old clock is late too
            self._hurry_again_at = time.monotonic() + clock.LOOKED_SECONDS

    def _hurry_all(self) -> bool:
        """Make waiting jobs due, step by step; returns True where none is left.

        Acks come between two steps. It ends after a while, since leases must be renewed.
        """
        ends = time.monotonic() + overdue.HURRY_SECONDS
        while self._database.write(lambda c: overdue.hurry(c, now=self._now())):
            if time.monotonic() >= ends:
                return False
        return True

    def list_dead(self, *, limit: int = 100) -> list[DeadLetter]:
        """Return the newest dead letters, newest first."""
        with self._database.read() as connection:
            return dead_letters.list_dead(connection, limit=limit)

    def replay(self, job_id: int) -> None:
        """Make a dead letter due again; raises NotFound."""
        self._database.write(lambda c: jobs.replay(c, job_id, now=self._now()))

    def end_checks(self, endpoint_id: str) -> None:
        """End the pending checks of an endpoint."""
        self._database.write(lambda c: checks.end(c, endpoint_id=endpoint_id, now=self._now()))


def _subject(lease: Lease) -> tuple[str, str, str]:
    """Return the key by which batches are locked in order, so that two groups do not deadlock."""
    return lease.source, lease.subject or "", lease.endpoint_id or ""


def _batches_of(connection: Connection, lease: Lease) -> list[Watched]:
    """Return the batches that a job is about, locked before anything is written about the job."""
    if lease.subject_kind != "batch":
        return []
    return batches.of(connection, lease.source, lease.subject, lease.endpoint_id)
