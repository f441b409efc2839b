"""Single runs, alone or of a batch, as the command line and programs ask for them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from storage.batches import outstanding
from storage.fetched import FetchedRun
from storage.jobs import checks
from storage.runs import results, runs, views
from storage.runs.results import ResultPage
from storage.runs.rows import row_of
from storage.runs.runs import KnownRun
from storage.runs.views import RunFacts
from storage.store.attach import attach
from storage.store.base import Base
from storage.store.check_jobs import enqueue_check


class Runs(Base):
    """Single runs, alone or of a batch, as the command line and programs ask for them."""

    def expect_run(
        self,
        source: str,
        run_id: str,
        *,
        endpoint_id: str | None,
        secret: str | None,
        input: dict[str, Any] | None,
        runner: str | None,
    ) -> None:
        """Know the run that was just created, watched: one commit.

        An endpoint of its own is bound to it, and gets its secret.
        """

        def work(connection: Connection) -> None:
            moment = self.now()
            if endpoint_id is None:
                enqueue_check(connection, source, "run", run_id, None, moment)
            else:
                attach(connection, self.vault, endpoint_id, run_id, secret=secret, now=moment)
            runs.expect(connection, source, run_id, input=input, runner=runner)

        self.database.write(work)

    def check_run(self, source: str, kind: str, run_id: str) -> None:
        """Have the check of a run look now."""
        self.database.write(lambda c: checks.hurry(c, kind, source, run_id, due=self.now()))

    def find_run(self, source: str, run_id: str) -> KnownRun | None:
        """What is stored of a run, or None."""
        with self.database.read() as connection:
            return runs.find(connection, source, run_id)

    def show_run(
        self, run_id: str, *, source: str | None = None
    ) -> tuple[RunFacts, dict[str, Any] | None]:
        """What is known of a run, and the raw answer of its current result; raises NotFound."""
        with self.database.read() as connection:
            return views.show(connection, run_id, source=source)

    def list_single_runs(self, *, source: str | None = None, limit: int = 100) -> list[RunFacts]:
        """The newest runs that are of no batch, newest first."""
        with self.database.read() as connection:
            return views.list_all(connection, source=source, limit=limit)

    def note_run(self, source: str, run: FetchedRun, *, fetched_at: datetime) -> None:
        """Keep what a call told of a run, and its result if it has one, outside of any job.

        Old news changes nothing here either.
        """
        page = ResultPage([row_of(run)], fetched_at)
        self.database.write(lambda c: results.store(c, source, [page], now=self.now()))

    def note_input(self, source: str, run_id: str, given: dict[str, Any]) -> None:
        """Keep the input of a run that we did not submit."""
        self.database.write(lambda c: runs.expect(c, source, run_id, input=given))

    def count_owed(self, source: str) -> int:
        """How many runs of a source that stand in no batch's ledger have no result; may take long.

        It is asked in many short reads, and may count twice what becomes known in between.
        """
        return outstanding.count(self.database, source)
