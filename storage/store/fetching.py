"""Bringing in: what a fetch stores, fenced by its lease."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from storage import jobs
from storage.batches import batches
from storage.batches.ledger import Ledger
from storage.database import Database
from storage.encryption import Vault
from storage.fetched import FetchedBatch, FetchedRun
from storage.jobs import checks
from storage.jobs.lease import Lease
from storage.jobs.progress import Progress
from storage.runs import results
from storage.runs.merges import current_results, merges
from storage.runs.results import ResultPage, Stored
from storage.runs.rows import RowChunk, chunks_of
from storage.store.base import Base
from storage.store.group_commit import Group


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a page that a job brought; `progress` with the last part alone."""

    lease: Lease
    page: ResultPage
    progress: Progress | None


class Bringing(Base):
    """Bringing in: what a fetch stores, fenced by its lease."""

    def __init__(self, database: Database, vault: Vault) -> None:
        super().__init__(database, vault)
        self._pages: Group[Piece, Stored] = Group(self._store_pieces)

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

    @staticmethod
    def prepare(runs: Sequence[FetchedRun]) -> list[RowChunk]:
        """Return the rows of a page: the part of storing it that needs no database."""
        return list(chunks_of(runs))

    def store_results(
        self,
        lease: Lease,
        runs: Sequence[FetchedRun],
        *,
        fetched_at: datetime,
        progress: Progress,
        origin: str = "api",
    ) -> Stored:
        """Store one page and how far the job is, fenced; raises LeaseLost."""
        return self.store_prepared(
            lease, chunks_of(runs), fetched_at=fetched_at, progress=progress, origin=origin
        )

    def store_prepared(
        self,
        lease: Lease,
        chunks: Iterable[RowChunk],
        *,
        fetched_at: datetime,
        progress: Progress,
        origin: str = "api",
    ) -> Stored:
        """The same for a page that `prepare` has made ready.

        A large page takes several transactions, and acks get between them. The last one carries
        the progress, so that it is never ahead of what is stored.
        """
        total = Stored()
        for chunk in chunks:
            reached = progress if chunk.is_last else None
            page = ResultPage(chunk.rows, fetched_at, origin)
            stored = self._pages.call(Piece(lease, page, reached), weight=_weight(page))
            total = Stored(
                total.new + stored.new,
                total.versions + stored.versions,
                total.unchanged + stored.unchanged,
            )
            if stored.new or stored.versions:
                lease.failures, lease.waits, lease.trying_since = 0, 0, None
        return total

    def _store_pieces(self, group: Sequence[Piece]) -> list[Stored | Exception]:
        """Store the pieces of those leases that are still held; LeaseLost for the others."""
        merged = {id(piece): page for piece, page in self._merged(group)}

        def work(connection: Connection) -> list[Stored | Exception]:
            for source, names in sorted(_batches_named(group).items()):
                batches.hold(connection, source, names)
            ours = jobs.fence(connection, [piece.lease for piece in group])
            kept = [piece for piece in group if piece.lease.key in ours]
            jobs.save_progress_of(
                connection,
                [(piece.lease, piece.progress) for piece in kept if piece.progress is not None],
            )
            stored: dict[int, Stored] = {}
            for source in sorted({piece.lease.source for piece in kept}):
                mine = [piece for piece in kept if piece.lease.source == source]
                pages = [merged[id(piece)] for piece in mine]
                told = results.store(connection, source, pages, now=self.now())
                stored |= {id(piece): one for piece, one in zip(mine, told, strict=True)}
            news = [p.lease for p in kept if stored[id(p)].new or stored[id(p)].versions]
            jobs.acquit_all(connection, news)
            return [stored.get(id(piece)) or jobs.lost(piece.lease) for piece in group]

        return self.database.write(work)

    def _merged(self, group: Sequence[Piece]) -> Iterator[tuple[Piece, ResultPage]]:
        """What can be worked out before the transaction: raw answers are large."""
        with self.database.read() as connection:
            found = [
                current_results(connection, piece.lease.source, piece.page.rows) for piece in group
            ]
        for piece, there in zip(group, found, strict=True):
            known = merges(piece.page.rows, there, fetched_at=piece.page.fetched_at, now=self.now())
            yield piece, replace(piece.page, merges=known)

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
                checks.end(connection, batch=mine, now=moment, keep=lease.job_id)
            return found

        return self.database.write(work)


def _batches_named(group: Sequence[Piece]) -> dict[str, set[str]]:
    """The batches that the runs of these pieces name, by source."""
    names: dict[str, set[str]] = {}
    for piece in group:
        of_source = names.setdefault(piece.lease.source, set())
        of_source |= {run.run.batch_id for run in piece.page.rows if run.run.batch_id is not None}
    return names


def _weight(page: ResultPage) -> int:
    """By rows or by size, whichever is more: a full piece fills a group."""
    characters = sum(len(row.raw) for row in page.rows)
    return max(len(page.rows), characters >> 13)
