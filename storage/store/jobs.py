"""Working off: jobs from the claim to their end, and the pauses of sources."""

import logging
import math
import time
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection

from storage import clock, jobs
from storage.batches import batches
from storage.batches.batches import Watched
from storage.database import Database
from storage.deliveries import events
from storage.deliveries.events import DeadLetter
from storage.encryption import Vault
from storage.jobs import checks, overdue, pauses, rate_limits
from storage.jobs.lease import AttemptOutcome, Lease
from storage.jobs.pauses import PausedSource
from storage.store.base import Base
from storage.store.check_jobs import watch
from storage.store.group_commit import Group

log = logging.getLogger(__name__)


class Work(Base):
    """Working off: jobs from the claim to their end, and the pauses of sources."""

    def __init__(self, database: Database, vault: Vault) -> None:
        super().__init__(database, vault)
        self._ends: Group[tuple[Lease, AttemptOutcome], None] = Group(self._finish_all)
        self._hurry_again_at = math.inf

    def claim_jobs(self, source: str, *, limit: int, slots: int | None = None) -> list[Lease]:
        """Take up to `limit` due jobs; one only where the source is paused.

        `slots` is how many of the source may run at once, over all processes.
        """

        def work(connection: Connection) -> list[Lease]:
            jobs.lock_claims(connection, source)
            moment = self.now()
            state = pauses.state(connection, source)
            if state is None:
                return jobs.claim(connection, source, limit=limit, slots=slots, now=moment)
            if state.probe_at > moment:
                return []
            probes = jobs.claim(connection, source, limit=1, slots=slots, now=moment)
            if probes:
                pauses.note_probe(connection, source, now=moment)
            return probes

        return self.database.write(work)

    def renew(self, leases: Sequence[Lease]) -> None:
        """Prolong the leases that are still ours."""
        self.database.write(lambda c: jobs.renew(c, leases, now=self.now()))

    def finish(self, lease: Lease, tried: AttemptOutcome) -> None:
        """End a job well; its source is no longer paused. Raises LeaseLost."""
        self._ends.call((lease, tried))

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

        return self.database.write(work)

    def _watch_again(self, connection: Connection, known: Sequence[Watched]) -> None:
        """A batch that grew while its job ended has nobody who looks again."""
        for batch in known:
            watch(connection, batch, self.now())

    def reschedule(
        self, lease: Lease, tried: AttemptOutcome, *, after: float, failed: bool, answered: bool
    ) -> None:
        """Ask again in `after` seconds; raises LeaseLost.

        `answered` says that the sender spoke with us, so that a paused source may go on.
        """

        def work(connection: Connection) -> None:
            jobs.reschedule(connection, lease, tried, after=after, failed=failed, answered=answered)
            if answered:
                pauses.resume(connection, lease.source)

        self.database.write(work)

    def pause_source(self, lease: Lease, tried: AttemptOutcome, *, after: float) -> None:
        """Put the job back uncounted, and stop asking its source but for one probe a while."""

        def work(connection: Connection) -> None:
            jobs.put_back(connection, lease, tried)
            reason = tried.detail or "refused"
            pauses.pause(connection, lease.source, reason, after=after, now=self.now())

        self.database.write(work)

    def probe_sources_now(self) -> None:
        """Let every paused source be probed at once: an operator has just started us."""
        self.database.write(lambda c: pauses.probe_now(c, now=self.now()))

    def bury(self, lease: Lease, tried: AttemptOutcome) -> None:
        """End a job as a dead letter; raises LeaseLost. Its batch stays watched by a check."""

        def work(connection: Connection) -> None:
            known = [] if lease.kind == "check" else _batches_of(connection, lease)
            jobs.bury(connection, lease, tried)
            self._watch_again(connection, known)

        self.database.write(work)

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return claimed jobs untried."""
        self.database.write(lambda c: jobs.give_back(c, leases, now=self.now()))

    def release_expired(self) -> int:
        """Return the jobs whose worker is gone; returns how many."""
        return self._release(all_of_them=False)

    def take_over(self) -> int:
        """Return what earlier processes left when they ended; returns how many jobs.

        Where we are the only one who works, that is whatever is running.
        """
        return self._release(all_of_them=not self.database.is_shared)

    def _release(self, *, all_of_them: bool) -> int:
        """With an eye on the clock, by which leases run out."""

        def work(connection: Connection) -> tuple[timedelta | None, int]:
            moment = self.database.look_at_clock(connection)
            back = clock.gone_back(connection, now=moment)
            return back, jobs.release(connection, now=moment, all_of_them=all_of_them)

        back, released = self.database.write(work)
        if back is not None:
            self._follow_back(back)
        elif time.monotonic() >= self._hurry_again_at and self._hurry_all():
            self._hurry_again_at = math.inf
        return released

    def _follow_back(self, back: timedelta) -> None:
        log.warning("the clock went back by %s: whatever waits is due at once", back)
        if not self._hurry_all():
            return  # the moment is not noted yet, so that the next look goes on
        self.database.write(lambda c: clock.note(c, now=self.now()))
        if self.database.is_shared:  # what others noted before they knew of it is late too
            self._hurry_again_at = time.monotonic() + clock.LOOKED_SECONDS

    def _hurry_all(self) -> bool:
        """Step by step, for acks must get between, and only for a while, for leases must be renewed
        between two looks; says whether nothing is left.
        """
        ends = time.monotonic() + overdue.HURRY_SECONDS
        while self.database.write(lambda c: overdue.hurry(c, now=self.now())):
            if time.monotonic() >= ends:
                return False
        return True

    def list_dead(self, *, limit: int = 100) -> list[DeadLetter]:
        """The dead letters, newest first."""
        with self.database.read() as connection:
            return events.list_dead(connection, limit=limit)

    def replay(self, job_id: int) -> None:
        """Work a dead letter again from our store; raises NotFound."""
        self.database.write(lambda c: jobs.replay(c, job_id, now=self.now()))

    def paused_sources(self) -> list[PausedSource]:
        """The sources that are paused, since when and why."""
        with self.database.read() as connection:
            return pauses.list_all(connection)

    def book_calls(self, source: str, count: int, interval: float) -> float:
        """Book calls `interval` seconds apart; returns how many seconds to wait for the first."""
        return self.database.write(
            lambda c: rate_limits.book(c, source, count, interval, now=self.now())
        )

    def hold_calls(self, source: str, seconds: float) -> None:
        """Let nobody book a call of this source before `seconds` have passed."""
        self.database.write(lambda c: rate_limits.hold(c, source, seconds, now=self.now()))

    def end_checks(self, endpoint_id: str) -> None:
        """Nothing more is waited for at this endpoint."""
        self.database.write(lambda c: checks.end(c, endpoint_id=endpoint_id, now=self.now()))


def _subject(lease: Lease) -> tuple[str, str, str]:
    """The order in which batches are locked, so that two groups never wait for each other."""
    return lease.source, lease.subject or "", lease.endpoint_id or ""


def _batches_of(connection: Connection, lease: Lease) -> list[Watched]:
    """The batches that a job about a batch is of, locked before anything is said of the job."""
    if lease.subject_kind != "batch":
        return []
    return batches.of(connection, lease.source, lease.subject, lease.endpoint_id)
