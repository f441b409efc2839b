"""Single runs, alone or of a batch."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from storage.batches import outstanding, submissions
from storage.batches.submissions import Submission
from storage.fetched import FetchedRun
from storage.jobs import checks
from storage.models import FoundBy
from storage.runs import compared, results, runs, views
from storage.runs.compared import ComparedRun, NamedRun
from storage.runs.results import ResultPage
from storage.runs.rows import RunRow, row_of
from storage.runs.runs import KnownRun
from storage.runs.views import RunFacts
from storage.store.attach import attach
from storage.store.check_jobs import enqueue_check, watch_reopened
from storage.store.part import StorePart


class RunStore(StorePart):
    """Single runs, alone or of a batch."""

    def expect(
        self,
        source: str,
        run_id: str,
        *,
        endpoint_id: str | None,
        secret: str | None,
        input: dict[str, Any] | None,
        runner: str | None,
        submission: Submission | None = None,
    ) -> None:
        """Add a run that was just created, with a check, in one commit.

        An endpoint of its own is bound to it, and gets its secret. The submission ends with that.
        """

        def work(connection: Connection) -> None:
            moment = self._now()
            if endpoint_id is None:
                first = self._first_check
                enqueue_check(connection, source, "run", run_id, None, moment, first=first)
            else:
                attach(connection, self._vault, endpoint_id, run_id, secret=secret, now=moment)
            runs.expect(connection, source, run_id, input=input, runner=runner)
            if submission is not None:
                submissions.end(connection, submission)

        self._database.write(work)

    def check(self, source: str, kind: str, run_id: str, *, by: FoundBy = "hand") -> None:
        """Make the check of a run due now; what it brings was found `by` whoever wants that."""
        self._database.write(
            lambda c: checks.hurry(c, kind, source, run_id, due=self._now(), by=by)
        )

    def find(self, source: str, run_id: str) -> KnownRun | None:
        """Return what is stored of a run, or None."""
        with self._database.read() as connection:
            return runs.find(connection, source, run_id)

    def show(
        self, run_id: str, *, source: str | None = None
    ) -> tuple[RunFacts, dict[str, Any] | None]:
        """Return a run, and the raw answer of its current result or None; raises NotFound."""
        with self._database.read() as connection:
            return views.show(connection, run_id, source=source)

    def list_single(self, *, source: str | None = None, limit: int = 100) -> list[RunFacts]:
        """Return the newest runs that are of no batch, newest first."""
        with self._database.read() as connection:
            return views.list_all(connection, source=source, limit=limit)

    def find_marked(self, source: str, mark: str) -> str | None:
        """Return the single run among the newest results whose raw answer holds `mark`, or None."""
        with self._database.read() as connection:
            return views.find_marked(connection, source, mark)

    def note(
        self, source: str, run: FetchedRun, *, fetched_at: datetime, found_by: FoundBy = "hand"
    ) -> None:
        """Store a run, and its result if it has one, from a call that no job made.

        Older news changes nothing.
        """
        page = ResultPage([row_of(run)], fetched_at, found_by)

        def work(connection: Connection) -> None:
            moment = self._now()
            results.store(connection, source, [page], now=moment)
            watch_reopened(connection, source, [page], moment, first=self._first_check)

        self._database.write(work)

    def decide(self, source: str, rows: Sequence[RunRow], *, fetched_at: datetime) -> None:
        """Store results as the sender shows them now, each as a new version.

        Even one that is older by its stamp becomes the current one: an operator has said so.
        """
        page = ResultPage(rows, fetched_at, "reconcile", decides=True)
        self._database.write(lambda c: results.store(c, source, [page], now=self._now()))

    def compared(self, source: str, run_ids: Sequence[str]) -> dict[str, ComparedRun]:
        """Return by id what is needed to compare these runs; an unknown one is left out."""
        with self._database.read() as connection:
            return compared.of(connection, source, run_ids)

    def pages(self, source: str, batch_id: str | None) -> Iterator[list[NamedRun]]:
        """Yield the known runs of a batch or, without one, of no known batch, page by page."""
        after: int | None = 0
        while after is not None:
            with self._database.read() as connection:
                page, after = compared.page(connection, source, batch_id, after=after)
            if page:
                yield page

    def note_input(self, source: str, run_id: str, given: dict[str, Any]) -> None:
        """Store the input of a run that we did not submit."""
        self._database.write(lambda c: runs.expect(c, source, run_id, input=given))

    def count_outstanding(self, source: str) -> int:
        """Count the runs of a source that have no result and are in no batch's ledger.

        It may take long, in many short reads; a run that becomes known meanwhile may count twice.
        """
        return outstanding.count(self._database, source)

    def unseen(
        self, source: str, batch_id: str, *, since: datetime | None, limit: int
    ) -> list[str]:
        """Return the runs of a batch that a listing left without the result of their end.

        `since` is the start of a complete listing; with None only runs known to have ended count.
        """
        with self._database.read() as connection:
            return results.unseen(connection, source, batch_id, since=since, limit=limit)
