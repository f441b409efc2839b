"""Sources as the sender lets us use them: paused or not, and how fast they may be called."""

from sqlalchemy import Connection

from storage import jobs
from storage.jobs import pauses, rate_limits
from storage.jobs.lease import AttemptOutcome, Lease
from storage.jobs.pauses import PausedSource
from storage.store.part import StorePart


class SourceStore(StorePart):
    """Pauses and rate limits of sources."""

    def pause(self, lease: Lease, outcome: AttemptOutcome, *, after: float) -> None:
        """Pause a job's source, except for a probe after `after` seconds; raises LeaseLost.

        The job is put back, and its attempt is not counted.
        """

        def work(connection: Connection) -> None:
            jobs.put_back(connection, lease, outcome)
            reason = outcome.detail or "refused"
            pauses.pause(connection, lease.source, reason, after=after, now=self._now())

        self._database.write(work)

    def probe_now(self) -> None:
        """Make the probe of every paused source due, as when an operator has started a worker."""
        self._database.write(lambda c: pauses.probe_now(c, now=self._now()))

    def list_paused(self) -> list[PausedSource]:
        """Return the paused sources, each with the reason."""
        with self._database.read() as connection:
            return pauses.list_all(connection)

    def book_calls(self, source: str, count: int, interval: float) -> float:
        """Book calls `interval` seconds apart; returns the seconds to wait for the first."""
        return self._database.write(
            lambda c: rate_limits.book(c, source, count, interval, now=self._now())
        )

    def hold_calls(self, source: str, seconds: float) -> None:
        """Let no call of this source be booked before `seconds` have passed."""
        self._database.write(lambda c: rate_limits.hold(c, source, seconds, now=self._now()))
