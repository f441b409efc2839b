"""Jobs without an outcome: leases prolonged, given back or run out, dead letters tried again."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, case, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from storage.errors import NotFound
from storage.jobs.lease import LEASE_SECONDS, AttemptOutcome, Lease
from storage.jobs.moves import attempt, held, record
from storage.jobs.new import enqueue_one, new_job
from storage.models import Attempt, Job

MAX_CLAIMS = 10
"""Claims without an outcome after which a job counts as poison and is buried."""


def renew(connection: Connection, leases: Iterable[Lease], *, now: datetime) -> None:
    """Prolong the leases that are still held; a lost one stays lost."""
    by_token: dict[str, list[int]] = {}
    for lease in leases:
        by_token.setdefault(lease.token, []).append(lease.job_id)
    for token, job_ids in by_token.items():
        connection.execute(
            update(Job)
            .where(
                col(Job.id).in_(job_ids),
                col(Job.lease_token) == token,
                col(Job.status) == "running",
            )
            .values(lease_until=now + timedelta(seconds=LEASE_SECONDS))
        )


def give_back(connection: Connection, leases: Iterable[Lease], *, now: datetime) -> None:
    """running -> pending for a clean stop: due at once, the claim not counted."""
    for lease in leases:
        connection.execute(
            held(lease).values(
                status="pending",
                claims=case((col(Job.claims) > 0, col(Job.claims) - 1), else_=0),
                lease_token=None,
                lease_until=None,
                next_attempt_at=now,
            )
        )


def release(connection: Connection, *, now: datetime, all_of_them: bool = False) -> int:
    """running -> pending (or dead) where the lease ran out; returns how many.

    `all_of_them` is for the start of the only worker that there can be: no job really runs then.
    A job keeps its due time, and so its place. One that was claimed more than three times without
    an outcome waits before it is tried again.
    """
    expired = update(Job).where(col(Job.status) == "running")
    if not all_of_them:
        expired = expired.where(col(Job.lease_until) <= now)
    poison = (
        expired.where(col(Job.claims) >= MAX_CLAIMS)
        .values(
            status="dead",
            lease_token=None,
            lease_until=None,
            ended_at=now,
            reason=f"{MAX_CLAIMS} workers ended without an outcome of this job",
        )
        .returning(col(Job.id))
    )
    buried = connection.execute(poison).all()
    due = case(
        (col(Job.claims) <= 3, col(Job.next_attempt_at)),
        (col(Job.claims) <= 6, now + timedelta(seconds=5)),
        else_=now + timedelta(seconds=30),
    )
    released = connection.execute(
        expired.values(
            status="pending", lease_token=None, lease_until=None, next_attempt_at=due
        ).returning(col(Job.id))
    ).all()
    return len(buried) + len(released)


def replay(connection: Connection, job_id: int, *, now: datetime) -> None:
    """dead -> pending, as if new; the attempts so far stay. Raises NotFound."""
    try:
        moved = connection.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.status) == "dead", col(Job.subject).is_not(None))
            .values(_as_new(now))
        )
    except IntegrityError as error:  # an endpoint has one live check
        raise NotFound(
            f"Dead letter {job_id} is not replayed: another check of its endpoint is alive."
        ) from error
    if moved.rowcount != 1:
        raise NotFound(f"There is no dead letter {job_id} that can be replayed: see `dead list`.")
    record(connection, job_id, _replayed(now))


def replay_all(connection: Connection, job_ids: Sequence[int], *, now: datetime) -> int:
    """Replay jobs of events that are over; returns how many. Others change nothing.

    dead -> pending as `replay`; a job that is done or abandoned stays so, and another one is made,
    which fetches although a result is here.
    """
    if not job_ids:
        return 0
    mine = col(Job.id).in_(job_ids)
    names = ("source", "subject_kind", "subject", "endpoint_id", "event_id")
    over = connection.execute(
        select(*(col(getattr(Job, name)) for name in names))
        .where(mine, col(Job.status).in_(("done", "abandoned")))
        .order_by(col(Job.id))
    ).all()
    revived = connection.execute(
        update(Job)
        .where(mine, col(Job.status) == "dead")
        .values(_as_new(now))
        .returning(col(Job.id))
    )
    made: list[Any] = [row.id for row in revived]
    for row in over:
        job = new_job("fetch", **row._mapping, due=now, progress={"again": True}, now=now)
        made.append(enqueue_one(connection, job, by="hand"))
    if made:
        connection.execute(insert(Attempt), [attempt(job_id, _replayed(now)) for job_id in made])
    return len(made)


def _as_new(now: datetime) -> dict[str, Any]:
    return {
        "status": "pending",
        "claims": 0,
        "failures": 0,
        "waits": 0,
        "progress": None,
        "hurried_by": "hand",
        "trying_since": None,
        "missing_since": None,
        "created_at": now,
        "next_attempt_at": now,
        "ended_at": None,
    }


def _replayed(now: datetime) -> AttemptOutcome:
    return AttemptOutcome(now, 0.0, "replayed", "by an operator")
