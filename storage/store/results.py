"""Results that a fetch brings, stored under its lease."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from storage import jobs
from storage.batches import batches
from storage.database import Database
from storage.database.call_group import CallGroup
from storage.encryption import Vault
from storage.fetched import FetchedRun
from storage.jobs.lease import Lease
from storage.jobs.progress import Progress
from storage.runs import results
from storage.runs.merges import current_results, merges
from storage.runs.results import ResultPage, Stored
from storage.runs.rows import RowChunk, chunks_of
from storage.store.check_jobs import watch_reopened
from storage.store.part import StorePart


@dataclass(frozen=True, slots=True)
class _JobChunk:
    """A chunk of a page that a job brought; `progress` comes with the last chunk alone."""

    lease: Lease
    page: ResultPage
    progress: Progress | None


class ResultStore(StorePart):
    """Results that a fetch brings, stored under its lease."""

    def __init__(self, database: Database, vault: Vault, *, first_check: timedelta) -> None:
        super().__init__(database, vault, first_check=first_check)
        self._pages: CallGroup[_JobChunk, Stored] = CallGroup(self._store_group)

    @staticmethod
    def rows_of(runs: Sequence[FetchedRun]) -> list[RowChunk]:
        """Return the rows of a page: the part of storing it that needs no database."""
        return list(chunks_of(runs))

    def store(
        self,
        lease: Lease,
        runs: Sequence[FetchedRun],
        *,
        fetched_at: datetime,
        progress: Progress,
        origin: str = "api",
    ) -> Stored:
        """Store one page and the progress of the job; raises LeaseLost."""
        return self.store_rows(
            lease, chunks_of(runs), fetched_at=fetched_at, progress=progress, origin=origin
        )

    def store_rows(
        self,
        lease: Lease,
        chunks: Iterable[RowChunk],
        *,
        fetched_at: datetime,
        progress: Progress,
        origin: str = "api",
    ) -> Stored:
        """Store the rows of a page, as `rows_of` made them, and the progress; raises LeaseLost.

        A large page takes several transactions, and acks come between them. The last one stores
        the progress too, so that it is never ahead of the results.
        """
        total = Stored()
        for chunk in chunks:
            reached = progress if chunk.is_last else None
            page = ResultPage(chunk.rows, fetched_at, lease.found_by, origin)
            stored = self._pages.call(_JobChunk(lease, page, reached), weight=_weight(page))
            total = Stored(
                total.new + stored.new,
                total.versions + stored.versions,
                total.unchanged + stored.unchanged,
            )
            if stored.new or stored.versions:
                lease.failures, lease.waits, lease.trying_since = 0, 0, None
        return total

    def _store_group(self, group: Sequence[_JobChunk]) -> list[Stored | Exception]:
        """Store the chunks of the leases that are still held; LeaseLost for the others."""
        merged = {id(part): page for part, page in self._merged(group)}

        def work(connection: Connection) -> list[Stored | Exception]:
            for source, names in sorted(_batches_named(group).items()):
                batches.hold(connection, source, names)
            ours = jobs.fence(connection, [part.lease for part in group])
            kept = [part for part in group if part.lease.key in ours]
            jobs.save_progress_of(
                connection,
                [(part.lease, part.progress) for part in kept if part.progress is not None],
            )
            stored: dict[int, Stored] = {}
            for source in sorted({part.lease.source for part in kept}):
                mine = [part for part in kept if part.lease.source == source]
                pages = [merged[id(part)] for part in mine]
                counts = results.store(connection, source, pages, now=self._now())
                watch_reopened(connection, source, pages, self._now(), first=self._first_check)
                stored |= {id(part): each for part, each in zip(mine, counts, strict=True)}
            news = [p.lease for p in kept if stored[id(p)].new or stored[id(p)].versions]
            jobs.acquit_all(connection, news)
            return [stored.get(id(part)) or jobs.lost(part.lease) for part in group]

        return self._database.write(work)

    def _merged(self, group: Sequence[_JobChunk]) -> Iterator[tuple[_JobChunk, ResultPage]]:
        """Work out the merges before the transaction, since raw answers are large."""
        with self._database.read() as connection:
            found = [
                current_results(connection, part.lease.source, part.page.rows) for part in group
            ]
        for part, there in zip(group, found, strict=True):
            known = merges(part.page.rows, there, fetched_at=part.page.fetched_at, now=self._now())
            yield part, replace(part.page, merges=known)


def _batches_named(group: Sequence[_JobChunk]) -> dict[str, set[str]]:
    """Return the batches that the runs of a group name, by source."""
    names: dict[str, set[str]] = {}
    for part in group:
        of_source = names.setdefault(part.lease.source, set())
        of_source |= {run.run.batch_id for run in part.page.rows if run.run.batch_id is not None}
    return names


def _weight(page: ResultPage) -> int:
    """Return the weight of a page, by rows or by size: a full chunk fills a group."""
    characters = sum(len(row.raw) for row in page.rows)
    return max(len(page.rows), characters >> 13)
