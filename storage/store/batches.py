"""Batches: registered, checked, complete or not."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from storage import jobs
from storage.batches import batches, naming, unfinished, webhooks
from storage.batches import ledger as ledgers
from storage.batches.batches import Watched
from storage.batches.ledger import Ledger
from storage.batches.webhooks import Webhooks
from storage.deliveries import dead_letters
from storage.deliveries.dead_letters import BatchDeadLetter, LastAttempt
from storage.fetched import FetchedBatch, SubmittedRun
from storage.jobs import checks
from storage.jobs.checks import CheckState
from storage.jobs.lease import Lease
from storage.models import FoundBy
from storage.store.check_jobs import watch
from storage.store.new_batches import NewBatchRow, add_runs, register
from storage.store.part import StorePart
from storage.store.story import MAX_MISSING_RUNS, BatchStory, story

RUNS_AT_ONCE = 200
"""Runs added in one transaction."""

LISTED_AT_ONCE = 100
"""Ledgers in one read, which counts the runs of each."""


class BatchStore(StorePart):
    """Batches: registered, checked, complete or not."""

    def register(
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
        """Add a batch that was just created, with a check, in one commit.

        An endpoint of its own is bound to it, and gets its secret.
        """
        new = NewBatchRow(endpoint_id, secret, name, runner, task_id, defaults)
        self._database.write(
            lambda c: register(
                c, self._vault, source, batch_id, new, moment=self._now(), first=self._first_check
            )
        )

    def defaults_of(self, source: str, batch_id: str) -> dict[str, Any]:
        """Return what each call that adds runs must repeat to the sender; empty without any."""
        with self._database.read() as connection:
            return batches.defaults(connection, source, batch_id)

    def add_runs(
        self,
        source: str,
        batch_id: str,
        runs: Sequence[SubmittedRun],
        *,
        submitted: int = 0,
    ) -> None:
        """Expect runs that the sender accepted, and `submitted` ones at least, named or not.

        Endpoints of their own are bound to the runs. The batch is checked again if it had ended,
        unless all runs that were added have ended too. Many runs take several transactions, and
        acks come between them. Repeating the call, because a transaction failed or the answer to a
        COMMIT was lost, changes nothing.
        """
        starts = range(0, max(len(runs), 1), RUNS_AT_ONCE)
        for start in starts:
            part = runs[start : start + RUNS_AT_ONCE]
            least = submitted if start == starts[-1] else 0
            self._database.write(
                partial(
                    add_runs,
                    vault=self._vault,
                    source=source,
                    batch_id=batch_id,
                    runs=part,
                    submitted=least,
                    moment=self._now(),
                    first=self._first_check,
                )
            )

    def note(self, source: str, batch: FetchedBatch) -> Ledger:
        """Store the answer of a status call that no job made; a batch that has grown is checked."""

        def work(connection: Connection) -> Ledger:
            moment = self._now()
            found = batches.save(connection, source, batch, announced=False, now=moment)
            watch(connection, found, moment, first=self._first_check)
            return found

        return self._database.write(work)

    def conclude(self, source: str, batch: FetchedBatch) -> Ledger:
        """Store a status call's answer like `note`, and mark the batch complete if it is."""

        def work(connection: Connection) -> Ledger:
            moment = self._now()
            batches.save(connection, source, batch, announced=False, now=moment)
            found = batches.settle(connection, source, batch, now=moment)
            if found.state == "complete":
                checks.end(connection, batch=(source, batch.batch_id), now=moment)
            watch(connection, found, moment, first=self._first_check)
            return found

        return self._database.write(work)

    def check(
        self,
        source: str,
        batch_id: str,
        *,
        by: FoundBy = "hand",
        after: timedelta = timedelta(),
        task_id: str | None = None,
    ) -> None:
        """Have a batch checked within `after`, and add it where it is unknown.

        What the check brings was found `by` whoever wants it so soon. `task_id` is the stored task
        that the batch belongs to, for senders that need one.
        """

        def work(connection: Connection) -> None:
            moment = self._now()
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
                watch(connection, found, moment, first=self._first_check, even_complete=True)
            checks.hurry(connection, "batch", source, batch_id, due=moment + after, by=by)

        self._database.write(work)

    def run_ids(self, source: str, batch_id: str) -> set[str]:
        """Return the ids of the runs of a batch that have a row."""
        with self._database.read() as connection:
            return batches.run_ids(connection, source, batch_id)

    def want_check(self, source: str, batch_id: str) -> CheckState:
        """Have a batch checked now because somebody waits for it; returns the check's state.

        None is added: where there is none, `check` adds it.
        """
        return self._database.write(lambda c: checks.want(c, source, batch_id, now=self._now()))

    def watched(self, source: str, batch_id: str) -> Watched | None:
        """Return a batch as far as checks need it, or None; nothing is counted."""
        with self._database.read() as connection:
            return batches.watched(connection, source, batch_id)

    def check_due(self, source: str, batch_id: str) -> timedelta | None:
        """Return how soon the pending check of a batch is due, or None."""
        moment = self._now()
        with self._database.read() as connection:
            due = checks.due(connection, "batch", source, batch_id)
        return None if due is None else due - moment

    def ledger(self, batch_id: str, *, source: str | None = None) -> Ledger:
        """Return the ledger of a batch; raises NotFound."""
        with self._database.read() as connection:
            return ledgers.find(connection, batch_id, source=source)

    def resolve(self, given: str, *, source: str | None = None) -> Ledger:
        """Return the ledger of the batch with this id, this name, or this beginning of either.

        An id goes before a name, and a name before a beginning. Raises NotFound, also where several
        batches may be meant.
        """
        with self._database.read() as connection:
            found = naming.resolve(connection, given, source=source)
            return ledgers.ledger(connection, *found)

    def webhooks(self, batch: Ledger) -> Webhooks:
        """Return whether any webhook of a batch has arrived, and how many were refused."""
        with self._database.read() as connection:
            return webhooks.of_batch(connection, batch)

    def list_newest(self, *, source: str | None = None, limit: int = 100) -> list[Ledger]:
        """Return the newest batches, newest first; many take several short reads."""
        sources = None if source is None else [source]
        found: list[Ledger] = []
        before: int | None = None
        while limit > len(found):
            most = min(limit - len(found), LISTED_AT_ONCE)
            with self._database.read() as connection:
                page, before = ledgers.list_page(
                    connection, sources=sources, limit=most, before=before
                )
            found += page
            if len(page) < most:
                break
        return found

    def pages(self, source: str) -> Iterator[list[str]]:
        """Yield the ids of all batches of a source, oldest first, page by page."""
        after = 0
        while True:
            with self._database.read() as connection:
                found = unfinished.all_batches(connection, source, after=after)
            if not found:
                return
            after = int(found[-1].key)
            yield [each.id for each in found]

    def story(
        self, batch_id: str, *, source: str | None = None, runs: int = MAX_MISSING_RUNS
    ) -> BatchStory:
        """Return a batch with all that explains it, and the first `runs` of its missing ones.

        All of it is read at one moment, so that nothing contradicts anything. Raises NotFound.
        """
        with self._database.read() as connection:
            found = ledgers.find(connection, batch_id, source=source)
            return story(connection, found, runs=runs, now=self._now())

    def last_attempt(self, source: str, batch_id: str) -> LastAttempt | None:
        """Return the newest look at a batch or at one of its runs, or None."""
        with self._database.read() as connection:
            return dead_letters.last_attempt_of(connection, source, batch_id)

    def dead_letters(self, source: str, batch_id: str) -> list[BatchDeadLetter]:
        """Return the dead letters that keep results of a batch away, newest first."""
        with self._database.read() as connection:
            return dead_letters.dead_of(connection, source, batch_id)

    def save(self, lease: Lease, batch: FetchedBatch) -> Ledger:
        """Store the answer of a status call that a job made; raises LeaseLost."""

        def work(connection: Connection) -> Ledger:
            batches.lock(connection, lease.source, batch.batch_id)
            jobs.save_progress(connection, lease, lease.progress)
            return batches.save(
                connection,
                lease.source,
                batch,
                announced=lease.event_id is not None,
                now=self._now(),
            )

        return self._database.write(work)

    def settle(self, lease: Lease, batch: FetchedBatch) -> Ledger:
        """Mark a batch complete if it is, and end its other checks; raises LeaseLost."""

        def work(connection: Connection) -> Ledger:
            moment = self._now()
            batches.lock(connection, lease.source, batch.batch_id)
            jobs.save_progress(connection, lease, lease.progress)
            found = batches.settle(connection, lease.source, batch, now=moment)
            if found.state == "complete":
                mine = (lease.source, batch.batch_id)
                checks.end(connection, batch=mine, now=moment, keep=lease.job_id)
            return found

        return self._database.write(work)
