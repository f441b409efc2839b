"""Bringing in: what a fetch stores, fenced by its lease."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from storage import (
    batches,
    jobs,
    results,
)
from storage.batches import Ledger
from storage.fetched import FetchedBatch, FetchedRun
from storage.jobs import Lease
from storage.prepared import Prepared, pieces
from storage.results import Stored
from storage.store.base import Base


class Bringing(Base):
    """Bringing in: what a fetch stores, fenced by its lease."""

    def save_batch(self, lease: Lease, batch: FetchedBatch) -> Ledger:
        """Keep what a status call said, fenced by the lease; raises LeaseLost."""

        def work(connection: Connection) -> Ledger:
            batches.lock(connection, lease.source, batch.batch_id)
            jobs.save_progress(connection, lease, lease.progress)
            return batches.save(
                connection,
                lease.source,
                batch,
                announced=lease.event_id is not None,
                now=self.now(),
            )

        return self.database.write(work)

    def store_results(
        self,
        lease: Lease,
        runs: Sequence[FetchedRun],
        *,
        fetched_at: datetime,
        progress: dict[str, Any],
        origin: str = "api",
    ) -> Stored:
        """Store one page and how far the job is, fenced; raises LeaseLost.

        A large page takes several transactions, and acks get between them. The last one carries
        the progress, so that it is never ahead of what is stored.
        """
        total = Stored()
        for piece, is_last in pieces(runs):
            reached = progress if is_last else None
            stored = self._store_piece(
                lease, piece, fetched_at=fetched_at, progress=reached, origin=origin
            )
            total = Stored(
                total.new + stored.new,
                total.versions + stored.versions,
                total.unchanged + stored.unchanged,
            )
        return total

    def _store_piece(
        self,
        lease: Lease,
        piece: Sequence[Prepared],
        *,
        fetched_at: datetime,
        progress: dict[str, Any] | None,
        origin: str,
    ) -> Stored:
        with self.database.read() as connection:
            found = results.look(connection, lease.source, piece)
        merges = results.merges(piece, found, fetched_at=fetched_at)

        named = {prepared.run.batch_id for prepared in piece if prepared.run.batch_id is not None}

        def work(connection: Connection) -> Stored:
            batches.hold(connection, lease.source, named)
            if progress is None:
                jobs.hold(connection, lease)
            else:
                jobs.save_progress(connection, lease, progress)
            stored = results.store(
                connection,
                lease.source,
                piece,
                fetched_at=fetched_at,
                origin=origin,
                merges=merges,
                now=self.now(),
            )
            if stored.new or stored.versions:
                jobs.acquit(connection, lease)
            return stored

        stored = self.database.write(work)
        if stored.new or stored.versions:
            lease.failures, lease.waits, lease.trying_since = 0, 0, None
        return stored

    def unseen_runs(
        self, source: str, batch_id: str, *, since: datetime | None, limit: int
    ) -> list[str]:
        """Runs that a listing begun at `since` left without a result; None: only ended ones."""
        with self.database.read() as connection:
            return results.unseen(connection, source, batch_id, since=since, limit=limit)

    def settle_batch(self, lease: Lease, batch: FetchedBatch) -> Ledger:
        """Call the batch complete if it is, and end its other checks; raises LeaseLost."""

        def work(connection: Connection) -> Ledger:
            moment = self.now()
            batches.lock(connection, lease.source, batch.batch_id)
            jobs.save_progress(connection, lease, lease.progress)
            found = batches.settle(connection, lease.source, batch, now=moment)
            if found.state == "complete":
                mine = (lease.source, batch.batch_id)
                jobs.end_checks(connection, batch=mine, now=moment, but=lease.job_id)
            return found

        return self.database.write(work)
