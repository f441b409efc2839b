"""Batches: known, watched, and what is missing of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict

from sqlalchemy import Connection

from storage.batches import batches
from storage.batches import ledger as ledgers
from storage.batches.batches import Watched
from storage.batches.ledger import Ledger, UnstoredRun
from storage.deliveries import events
from storage.deliveries.events import BatchDeadLetter, LastAttempt
from storage.errors import NotFound
from storage.fetched import FetchedBatch, SubmittedRun
from storage.jobs import checks
from storage.store.attach import attach
from storage.store.base import Base
from storage.store.check_jobs import watch

RUNS_AT_ONCE = 200
"""Runs added in one transaction."""

LISTED_AT_ONCE = 100
"""Ledgers in one read: the runs of each are counted."""


class MissingResults(TypedDict):
    """What keeps a batch from completion."""

    missing: list[UnstoredRun]
    dead: list[BatchDeadLetter]
    last_attempt: LastAttempt | None


class Batches(Base):
    """Batches: known, watched, and what is missing of them."""

    def register_batch(
        self,
        source: str,
        batch_id: str,
        *,
        endpoint_id: str | None,
        secret: str | None = None,
        name: str | None = None,
        runner: str | None = None,
        task_id: str | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Know the batch that was just created, watched: one commit.

        An endpoint of its own is bound to it, and gets its secret.
        """

        def work(connection: Connection) -> None:
            moment = self.now()
            if endpoint_id is not None:
                attach(connection, self.vault, endpoint_id, batch_id, secret=secret, now=moment)
            batches.register(
                connection,
                source=source,
                batch_id=batch_id,
                endpoint_id=endpoint_id,
                name=name,
                runner=runner,
                task_id=task_id,
                defaults=defaults,
                now=moment,
            )
            if endpoint_id is None:
                watch(connection, ledgers.ledger(connection, source, batch_id), moment)

        self.database.write(work)

    def defaults_of(self, source: str, batch_id: str) -> dict[str, Any]:
        """What an addition to a batch must say again; empty where nothing is kept."""
        with self.database.read() as connection:
            return batches.defaults(connection, source, batch_id)

    def add_runs(
        self,
        source: str,
        batch_id: str,
        runs: Sequence[SubmittedRun],
        *,
        unlisted: int = 0,
        addition: str | None = None,
    ) -> None:
        """Expect runs that the sender accepted, and `unlisted` more whose ids it did not tell.

        The endpoints of their own are bound to them. The batch is watched again if it had ended,
        unless all that was added has ended too. Many take several transactions, and acks get
        between. To do it again, because a later one failed or the answer to a COMMIT was lost,
        changes nothing; where some are unlisted, under the same `addition`, a name for this one.
        """
        starts = range(0, max(len(runs), 1), RUNS_AT_ONCE)
        for start in starts:
            part = runs[start : start + RUNS_AT_ONCE]
            rest = unlisted if start == starts[-1] else 0
            self.database.write(partial(self._add_runs, source, batch_id, part, rest, addition))

    def _add_runs(
        self,
        source: str,
        batch_id: str,
        runs: Sequence[SubmittedRun],
        unlisted: int,
        addition: str | None,
        connection: Connection,
    ) -> None:
        moment = self.now()
        counted: dict[str, Any] = {"unlisted": unlisted, "idempotency_key": addition, "now": moment}
        batches.add_runs(connection, source, batch_id, runs, **counted)
        for run in runs:
            if run.endpoint_id is not None:
                with suppress(NotFound):  # an early callback has bound it to another run already
                    attach(connection, self.vault, run.endpoint_id, run.run_id, now=moment)
        watched = batches.watched(connection, source, batch_id)
        if watched is not None:
            watch(connection, watched, moment)

    def note_batch(self, source: str, batch: FetchedBatch) -> Ledger:
        """Keep what a status call said of a batch, outside of any job.

        A batch that has grown since its end is watched again.
        """

        def work(connection: Connection) -> Ledger:
            moment = self.now()
            found = batches.save(connection, source, batch, announced=False, now=moment)
            watch(connection, found, moment)
            return found

        return self.database.write(work)

    def check_batch(
        self,
        source: str,
        batch_id: str,
        *,
        after: timedelta = timedelta(),
        task_id: str | None = None,
    ) -> None:
        """Look for news of a batch that soon, whether we knew of it or not.

        `task_id` is the stored task that it is of, where it needs one.
        """

        def work(connection: Connection) -> None:
            moment = self.now()
            batches.register(
                connection,
                source=source,
                batch_id=batch_id,
                endpoint_id=None,
                task_id=task_id,
                now=moment,
            )
            found = batches.watched(connection, source, batch_id)
            if found is not None:
                watch(connection, found, moment, even_complete=True)
            checks.hurry(connection, "batch", source, batch_id, due=moment + after)

        self.database.write(work)

    def watched(self, source: str, batch_id: str) -> Watched | None:
        """As much of a batch as is needed to watch it, or None; nothing is counted."""
        with self.database.read() as connection:
            return batches.watched(connection, source, batch_id)

    def check_due(self, source: str, batch_id: str) -> timedelta | None:
        """How soon the check of a batch is due; None where none waits."""
        moment = self.now()
        with self.database.read() as connection:
            due = checks.due(connection, "batch", source, batch_id)
        return None if due is None else due - moment

    def ledger(self, batch_id: str, *, source: str | None = None) -> Ledger:
        """The ledger of a batch; raises NotFound."""
        with self.database.read() as connection:
            return ledgers.find(connection, batch_id, source=source)

    def list_batches(self, *, source: str | None = None, limit: int = 100) -> list[Ledger]:
        """The newest batches, newest first; many take several short reads."""
        found: list[Ledger] = []
        before: int | None = None
        while limit > len(found):
            most = min(limit - len(found), LISTED_AT_ONCE)
            with self.database.read() as connection:
                page, before = ledgers.list_page(
                    connection, source=source, limit=most, before=before
                )
            found += page
            if len(page) < most:
                break
        return found

    def missing(self, ledger: Ledger) -> MissingResults:
        """What keeps a batch from completion: runs without a result, dead letters, the last try."""
        with self.database.read() as connection:
            named = (ledger.source, ledger.batch_id)
            return {
                "missing": ledgers.unstored(connection, *named),
                "dead": events.dead_of(connection, *named),
                "last_attempt": events.last_attempt_of(connection, *named),
            }

    def dead_of(self, source: str, batch_id: str) -> list[BatchDeadLetter]:
        """The dead letters that keep results of a batch away, newest first."""
        with self.database.read() as connection:
            return events.dead_of(connection, source, batch_id)

    @contextmanager
    def watch(self) -> Iterator[Callable[[], object]]:
        """Yield a cheap look that tells another value when another connection has committed."""
        with self.database.watch() as version:
            yield version
