"""Outcomes of attempts: from running to done, pending or dead, and what a job reaches before."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Executable, func, update
from sqlmodel import col

from storage.database import insert, statement
from storage.jobs.lease import AttemptOutcome, Lease
from storage.jobs.moves import attempt, ended, fence, lost, move, pending, record, set_many
from storage.jobs.progress import Progress
from storage.json_text import clean
from storage.models import Attempt, Job


def save_progress(connection: Connection, lease: Lease, progress: Progress) -> None:
    """Store a job's progress; raises LeaseLost, so that it also fences the caller's transaction."""
    move(connection, lease, progress=clean(progress))


def save_progress_of(connection: Connection, reached: Sequence[tuple[Lease, Progress]]) -> None:
    """Store the progress of jobs that the caller has fenced."""
    set_many(connection, [(lease, {"progress": clean(progress)}) for lease, progress in reached])


def acquit_all(connection: Connection, leases: Sequence[Lease]) -> None:
    """Reset the counts of jobs that have brought something new; the caller has fenced them."""
    if leases:
        _acquit(connection, job_ids=[lease.job_id for lease in leases])


@statement
def _acquit(job_ids: Any) -> Executable:
    return (
        update(Job)
        .where(col(Job.id).in_(job_ids))
        .values(claims=0, failures=0, waits=0, trying_since=None)
    )


def finish(connection: Connection, lease: Lease, outcome: AttemptOutcome) -> None:
    """running -> done."""
    if not finish_all(connection, [(lease, outcome)]):
        raise lost(lease)


def finish_all(
    connection: Connection, outcomes: Sequence[tuple[Lease, AttemptOutcome]]
) -> set[tuple[int, str]]:
    """running -> done for many jobs; returns the keys of the leases that were still held."""
    ours = fence(connection, [lease for lease, _ in outcomes])
    kept = [(lease, outcome) for lease, outcome in outcomes if lease.key in ours]
    set_many(
        connection,
        [(lease, {**ended("done", outcome), "reason": None}) for lease, outcome in kept],
    )
    if kept:
        rows = [attempt(lease.job_id, outcome) for lease, outcome in kept]
        connection.execute(insert(Attempt), rows)
    return ours


def reschedule(
    connection: Connection,
    lease: Lease,
    outcome: AttemptOutcome,
    *,
    after: float,
    failed: bool,
    answered: bool = False,
) -> None:
    """running -> pending, due in `after` seconds; counts a failure or a wait.

    `answered` means that the sender's answer was about the subject itself: a failure then means
    that the sender does not know the subject, a wait that it does.
    """
    counted: dict[str, Any] = (
        {"failures": col(Job.failures) + 1, "waits": 0} if failed else {"waits": col(Job.waits) + 1}
    )
    if answered:
        since = func.coalesce(col(Job.missing_since), outcome.started_at)
        counted["missing_since"] = since if failed else None
        if lease.kind == "check":  # the hurried look was answered: the next one is its own again
            counted["hurried_by"] = None
    move(
        connection,
        lease,
        **pending(outcome, after),
        trying_since=func.coalesce(col(Job.trying_since), outcome.started_at),
        **counted,
    )
    record(connection, lease.job_id, outcome)


def put_back(connection: Connection, lease: Lease, outcome: AttemptOutcome) -> None:
    """running -> pending, due at once, while its source is paused; nothing is counted."""
    move(connection, lease, **pending(outcome, after=0))
    record(connection, lease.job_id, outcome)


def bury(connection: Connection, lease: Lease, outcome: AttemptOutcome) -> None:
    """running -> dead."""
    move(connection, lease, **ended("dead", outcome), reason=outcome.detail)
    record(connection, lease.job_id, outcome)
