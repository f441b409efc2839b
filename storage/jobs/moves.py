"""Compare-and-set on jobs: what every transition is made of."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, select, tuple_, update
from sqlmodel import col

from storage.database import insert, statement
from storage.errors import LeaseLost
from storage.jobs.lease import AttemptOutcome, Lease
from storage.models import Attempt, Job


def lost(lease: Lease) -> LeaseLost:
    """Return the error for a lease that is no longer held."""
    return LeaseLost(f"Job {lease.job_id} is in other hands.")


def fence(connection: Connection, leases: Sequence[Lease]) -> set[tuple[int, str]]:
    """Return the keys of those leases that are still held; they stay so until the COMMIT."""
    ours = _fence(connection, held=[lease.key for lease in leases])
    return {(row.id, row.lease_token) for row in ours}


@statement
def _fence(held: Any) -> Executable:
    return (
        select(col(Job.id), col(Job.lease_token))
        .where(tuple_(col(Job.id), col(Job.lease_token)).in_(held), col(Job.status) == "running")
        .order_by(col(Job.id))
        .with_for_update()
    )


def statuses(connection: Connection, job_ids: Sequence[int]) -> dict[int, str]:
    """Return the status of each of these jobs."""
    rows = connection.execute(select(col(Job.id), col(Job.status)).where(col(Job.id).in_(job_ids)))
    return {row.id: row.status for row in rows}


def held(lease: Lease) -> Any:
    return update(Job).where(
        col(Job.id) == lease.job_id,
        col(Job.status) == "running",
        col(Job.lease_token) == lease.token,
    )


def move(connection: Connection, lease: Lease, **values: Any) -> None:
    if connection.execute(held(lease).values(**values)).rowcount != 1:
        raise lost(lease)


def set_many(connection: Connection, moves: Sequence[tuple[Lease, dict[str, Any]]]) -> None:
    """Set the same columns of many fenced jobs by one statement."""
    if moves:
        connection.execute(
            _setting(tuple(moves[0][1])),
            [{"of_job": lease.job_id, **values} for lease, values in moves],
        )


@cache
def _setting(names: tuple[str, ...]) -> Executable:
    parameters: Any = {name: bindparam(name) for name in names}
    return update(Job).where(col(Job.id) == bindparam("of_job")).values(parameters)


def pending(outcome: AttemptOutcome, after: float) -> dict[str, Any]:
    return {
        "status": "pending",
        "lease_token": None,
        "lease_until": None,
        "claims": 0,
        "next_attempt_at": outcome.ended_at + timedelta(seconds=after),
        "reason": outcome.detail,
    }


def ended(status: str, outcome: AttemptOutcome) -> dict[str, Any]:
    return {
        "status": status,
        "lease_token": None,
        "lease_until": None,
        "claims": 0,
        "ended_at": outcome.ended_at,
    }


def record(connection: Connection, job_id: int, outcome: AttemptOutcome) -> None:
    connection.execute(insert(Attempt).values(**attempt(job_id, outcome)))


def attempt(job_id: int, outcome: AttemptOutcome) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "started_at": outcome.started_at,
        "milliseconds": outcome.milliseconds,
        "outcome": outcome.outcome,
        "detail": outcome.detail,
    }
