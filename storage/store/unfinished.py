"""Unfinished batches, runs and endpoints, each with the check that looks for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from storage.batches import unfinished
from storage.batches.unfinished import Named, Tally
from storage.jobs import checks
from storage.store.check_jobs import ensure_check
from storage.store.part import StorePart


@dataclass(frozen=True, slots=True)
class Check:
    """A live check. `subject` is None where its endpoint is bound to nothing yet."""

    job_id: int
    kind: str
    subject: str | None
    endpoint_id: str | None


class UnfinishedStore(StorePart):
    """Open batches, awaited runs and unbound endpoints of a source, in pages.

    Each has a live check, made anew where it had been given up.
    """

    def batches(self, source: str) -> Iterator[list[Check]]:
        """Yield the checks of the open batches, page by page."""
        after: int | None = 0
        while after is not None:
            with self._database.read() as connection:
                found, after = unfinished.open_batches(connection, source, after=after)
            if found:
                yield self._checks(source, found, "batch")

    def complete(self, source: str, *, since: datetime) -> Iterator[list[str]]:
        """Yield the ids of the complete batches that are known since a moment, page by page."""
        after = 0
        read = partial(unfinished.complete_batches, source=source, since=since)
        while found := self._read(partial(read, after=after)):
            after = int(found[-1].key)
            yield [each.id for each in found]

    def runs(self, source: str, *, kind: str) -> Iterator[list[Check]]:
        """Yield the checks of runs without a result that no batch looks after, page by page.

        `kind` is that of runs that had no check before.
        """
        after: int | None = 0
        while after is not None:
            with self._database.read() as connection:
                found, after = unfinished.awaited_runs(connection, source, after=after)
            if found:
                yield self._checks(source, found, kind)

    def endpoints(self, source: str) -> Iterator[list[Check]]:
        """Yield the checks of the endpoints that are bound to nothing yet, page by page."""
        after = ""
        read = partial(unfinished.unbound_endpoints, source=source)
        while found := self._read(partial(read, after=after)):
            after = str(found[-1].key)
            yield self._checks(source, found, "endpoint")

    def batch(self, source: str, batch_id: str) -> Check:
        """Return the check of one batch, known or not, complete or not."""
        return self._checks(source, [Named(0, batch_id, None)], "batch")[0]

    def tally(self, source: str, kind: str, subject: str) -> Tally:
        """Count the known runs and the stored results of a batch, or of a single run."""
        batch_id = subject if kind == "batch" else None
        with self._database.read() as connection:
            return unfinished.tally(connection, source, batch_id=batch_id, run_id=subject)

    def _read(self, read: Callable[[Connection], list[Named]]) -> list[Named]:
        with self._database.read() as connection:
            return read(connection)

    def _checks(self, source: str, found: list[Named], kind: str) -> list[Check]:
        return self._database.write(
            lambda c: [self._check(c, source, kind, each) for each in found]
        )

    def _check(self, connection: Connection, source: str, kind: str, found: Named) -> Check:
        subject: str | None = found.id
        endpoint_id, newest = found.endpoint_id, checks.newest
        if kind == "endpoint":
            kind, subject = found.kind or kind, None
        elif kind != "batch" and (earlier := newest(connection, source, found.id)) is not None:
            kind, endpoint_id = earlier.subject_kind, earlier.endpoint_id
        mine = (source, kind, subject, endpoint_id)
        job_id = ensure_check(connection, *mine, self._now(), first=self._first_check)
        return Check(job_id, kind, subject, endpoint_id)
