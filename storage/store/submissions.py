"""Submissions that are not finished: each step is a transaction of its own."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from storage.batches import submissions
from storage.batches.submissions import Call, NewSubmission, StoredTask, Submission
from storage.endpoints import endpoints
from storage.errors import NotFound
from storage.fetched import SubmittedRun
from storage.jobs import checks
from storage.store.check_jobs import enqueue_check
from storage.store.new_batches import NewBatchRow, add_runs, register
from storage.store.part import StorePart

RUNS_AT_ONCE = 200
"""Runs added in one transaction."""


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """The endpoint that a submission needs; `check_every` is in seconds."""

    kind: str
    check_every: float | None = None


class SubmissionStore(StorePart):
    """Submissions that are not finished.

    Verbs that take a Submission return it as it is then, and raise SubmissionTaken where another
    process has gone on with it. Repeating one, because the answer to its COMMIT was lost, changes
    nothing.
    """

    def begin(
        self,
        new: NewSubmission,
        tasks: Sequence[StoredTask],
        *,
        endpoint: EndpointPlan | None = None,
    ) -> Submission:
        """Store what is to be submitted, with its endpoint and that one's check, in one commit."""
        submission_id = submissions.new_id()
        rows = submissions.rows_of(submission_id, tasks)

        def work(connection: Connection) -> Submission:
            moment = self._now()
            endpoint_id = None
            if endpoint is not None:
                endpoint_id = endpoints.add(
                    connection, source=new.source, kind=endpoint.kind, resource=None, now=moment
                )
                enqueue_check(
                    connection,
                    new.source,
                    endpoint.kind,
                    None,
                    endpoint_id,
                    moment,
                    first=self._first_check,
                    every=endpoint.check_every,
                )
            return submissions.begin(
                connection, new, submission_id, rows, endpoint_id=endpoint_id, now=moment
            )

        return self._database.write(work)

    def find(self, submission_id: str) -> Submission:
        """Return a submission; raises NotFound where there is none, or it is finished."""
        with self._database.read() as connection:
            return submissions.find(connection, submission_id)

    def list_all(
        self, *, source: str | None = None, batch_id: str | None = None
    ) -> list[Submission]:
        """Return the submissions that are not finished, oldest first."""
        with self._database.read() as connection:
            return submissions.list_all(connection, source=source, batch_id=batch_id)

    def tasks(
        self, known: Submission, *, start: int = 0, limit: int | None = None
    ) -> list[StoredTask]:
        """Return its tasks in their order, from position `start`."""
        with self._database.read() as connection:
            return submissions.tasks(connection, known.id, start=start, limit=limit)

    def calling(self, known: Submission, call: Call) -> Submission:
        """Note that a call is about to be made, which may happen from now on."""
        return self._database.write(
            lambda c: submissions.change(c, known, calling=call, called_at=self._now())
        )

    def not_called(self, known: Submission) -> Submission:
        """Note that the call that was begun has changed nothing at the sender."""
        return self._database.write(lambda c: submissions.change(c, known, calling=None))

    def stored_task(self, known: Submission, task_id: str) -> Submission:
        """Note the stored task that the sender has made."""
        return self._database.write(
            lambda c: submissions.change(c, known, calling=None, task_id=task_id)
        )

    def add_endpoints(self, known: Submission, start: int, secrets: Sequence[str]) -> list[str]:
        """Make an open endpoint for each task from position `start`; returns their ids."""

        def work(connection: Connection) -> list[str]:
            moment = self._now()
            made = []
            for secret in secrets:
                made.append(
                    endpoints.add(
                        connection,
                        source=known.source,
                        kind="run",
                        resource=None,
                        task_id=known.task_id,
                        now=moment,
                    )
                )
                endpoints.set_secret(connection, self._vault, made[-1], secret, now=moment)
            submissions.set_endpoints(connection, known, start, made)
            return made

        return self._database.write(work)

    def forget_endpoints(self, known: Submission) -> None:
        """Give its tasks new endpoints: the old ones stay open for a batch that may exist."""
        none = [None] * known.total
        self._database.write(lambda c: submissions.set_endpoints(c, known, 0, none))

    def batch_called_back(self, known: Submission) -> str | None:
        """Return the batch of a run that has called back at an endpoint of a task, or None."""
        with self._database.read() as connection:
            return submissions.batch_called_back(connection, known)

    def created(self, known: Submission, batch_id: str, new: NewBatchRow) -> Submission:
        """Store the batch that was made, with its secret; all tasks are pending in it."""

        def work(connection: Connection) -> Submission:
            register(
                connection,
                self._vault,
                known.source,
                batch_id,
                new,
                moment=self._now(),
                first=self._first_check,
            )
            return submissions.created(connection, known, batch_id, task_id=new.task_id)

        return self._database.write(work)

    def added(
        self,
        known: Submission,
        runs: Sequence[SubmittedRun],
        *,
        done: int,
        accepted: int,
    ) -> Submission:
        """Store the outcome of `done` tasks: accepted runs, some of which may have no id yet.

        Many runs take several transactions, and acks come between them. It ends with its last task.
        """
        starts = range(0, max(len(runs), 1), RUNS_AT_ONCE)
        for start in starts[:-1]:
            self._database.write(partial(self._add, known=known, runs=runs, start=start))

        def work(connection: Connection) -> Submission:
            advanced = submissions.advance(connection, known, done=done, accepted=accepted)
            least = advanced.before + advanced.accepted
            self._add(connection, known=known, runs=runs, start=starts[-1], submitted=least)
            return advanced

        return self._database.write(work)

    def _add(
        self,
        connection: Connection,
        *,
        known: Submission,
        runs: Sequence[SubmittedRun],
        start: int,
        submitted: int = 0,
    ) -> None:
        add_runs(
            connection,
            vault=self._vault,
            source=known.source,
            batch_id=str(known.batch_id),
            runs=runs[start : start + RUNS_AT_ONCE],
            submitted=submitted,
            moment=self._now(),
            first=self._first_check,
        )

    def end(self, known: Submission) -> None:
        """Forget a submission that is finished; what it has not added is pending no more."""

        def work(connection: Connection) -> None:
            submissions.end(connection, known)
            if known.batch_id is not None and known.done < known.total:
                checks.hurry(
                    connection, "batch", known.source, known.batch_id, due=self._now(), by="check"
                )

        self._database.write(work)

    def undo(self, known: Submission) -> None:
        """Forget a submission of which nothing exists at the sender, and close its endpoints."""

        def work(connection: Connection) -> None:
            moment = self._now()
            named = {task.endpoint_id for task in submissions.tasks(connection, known.id)}
            submissions.end(connection, known)
            for endpoint_id in sorted({known.endpoint_id, *named} - {None}, key=str):
                self._close(connection, str(endpoint_id), moment)

        self._database.write(work)

    @staticmethod
    def _close(connection: Connection, endpoint_id: str, moment: datetime) -> None:
        with suppress(NotFound):  # it is closed already
            endpoints.close(connection, endpoint_id, now=moment)
        checks.end(connection, endpoint_id=endpoint_id, now=moment)
