"""The one state machine of all background work.

    from       to         by            when
    ---------  ---------  ------------  -------------------------------------------------
    -          pending    enqueue       with the event, batch or endpoint that needs it
    -          dead       enqueue       a verified but unusable delivery
    pending    running    claim         a worker has a free slot; counted in `claims`
    running    done       finish        what the job is for is stored
    running    pending    reschedule    asked again later; `failures` only where it was one
    running    pending    put_back      the source was refused; nothing is counted
    running    pending    give_back     a polite stop; the claim is not counted
    running    pending    release       the lease ran out; `claims` stays, so poison shows
    running    dead       bury          no further try can help, or MAX_CLAIMS workers died of it
    dead       pending    replay        an operator says so
    pending    pending    checks.hurry  there is news of its subject: its check is due sooner
    pending    done       checks.end    nothing is left to look for
    pending    done       checks.adopt  an endpoint's own check looks at this batch from now on

One transition is one function inside the caller's transaction and one compare-and-set on id,
status and lease token. Whoever holds a lease that is no longer his gets LeaseLost and has written
nothing. `claims` counts the claims since the last outcome, so that a job which kills its worker
ends as a dead letter although nobody lives to count the failure.
"""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    bindparam,
    case,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from storage.database import insert, statement, take_turns
from storage.errors import LeaseLost, NotFound
from storage.jobs.claim import TOLD, claiming
from storage.jobs.lease import LEASE_SECONDS, AttemptOutcome, Lease
from storage.jobs.new import NewJob
from storage.jobs.progress import Progress
from storage.json_text import clean
from storage.models import Attempt, Job

MAX_CLAIMS = 10
"""Claims without an outcome after which a job is taken for poison."""


def enqueue(connection: Connection, job: NewJob) -> None:
    """Add a job; a second live check job for the same endpoint changes nothing."""
    if job.progress:
        job = job._replace(progress=clean(job.progress))
    connection.execute(insert(Job).values(job._asdict()).on_conflict_do_nothing())


def await_turn(connection: Connection, source: str) -> None:
    """Claims of a source come one after the other: each must see what the one before has taken.

    That may take a while, so look at the clock behind it.
    """
    take_turns(connection, f"claim {source}")


def claim(
    connection: Connection, source: str, *, limit: int, now: datetime, slots: int | None = None
) -> list[Lease]:
    """Take up to `limit` due jobs of `source`, the longest due first, but checks before others.

    One check may make many other jobs needless: a batch's listing brings what all the events of
    its runs announce. They take half of the slots at most, and one at least. Of the jobs whose
    workers ended more than once without an outcome at most one runs at a time: those that died
    together would die together again, the innocent with the guilty.

    `slots` is how many may run at once, wherever they do: it is our turn (`await_turn`).
    """
    if slots is not None:
        limit = min(limit, slots - _running(connection, source))
    if limit <= 0:
        return []
    token = secrets.token_hex(8)
    rows = connection.execute(
        claiming(),
        {
            "of_source": source,
            "moment": now,
            "most": limit,
            "most_checks": max(1, limit // 2),
            "token": token,
            "until": now + timedelta(seconds=LEASE_SECONDS),
        },
    ).all()
    return [
        Lease(
            job_id=row.id,
            token=token,
            source=source,
            progress=row.progress or Progress(),
            **{name: getattr(row, name) for name in TOLD},
        )
        for row in rows
    ]


def _running(connection: Connection, source: str) -> int:
    return int(_count_running(connection, of_source=source).scalar_one())


@statement
def _count_running(of_source: Any) -> Executable:
    return select(func.count()).where(col(Job.status) == "running", col(Job.source) == of_source)


def acquit_all(connection: Connection, leases: Sequence[Lease]) -> None:
    """Hold nothing against jobs that have brought something new; they were fenced just now."""
    if leases:
        _acquit(connection, job_ids=[lease.job_id for lease in leases])


@statement
def _acquit(job_ids: Any) -> Executable:
    return (
        update(Job)
        .where(col(Job.id).in_(job_ids))
        .values(claims=0, failures=0, waits=0, trying_since=None)
    )


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


def save_progress(connection: Connection, lease: Lease, progress: Progress) -> None:
    """Keep how far the job is; also the fence of what is written with it: raises LeaseLost."""
    _move(connection, lease, progress=clean(progress))


def lost(lease: Lease) -> LeaseLost:
    """What is said where a lease is held no longer."""
    return LeaseLost(f"Job {lease.job_id} is in other hands.")


def fence(connection: Connection, leases: Sequence[Lease]) -> set[tuple[int, str]]:
    """Which of these leases (by their keys) are still held; they stay so until our COMMIT.

    What is written about their jobs, or about what they brought, counts.
    """
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


def save_progress_of(connection: Connection, reached: Sequence[tuple[Lease, Progress]]) -> None:
    """Keep how far these jobs are, which were fenced just now."""
    _set(connection, [(lease, {"progress": clean(progress)}) for lease, progress in reached])


def finish(connection: Connection, lease: Lease, tried: AttemptOutcome) -> None:
    """running -> done."""
    if not finish_all(connection, [(lease, tried)]):
        raise lost(lease)


def finish_all(
    connection: Connection, tries: Sequence[tuple[Lease, AttemptOutcome]]
) -> set[tuple[int, str]]:
    """running -> done for many jobs; returns the keys of the leases that were still held."""
    ours = fence(connection, [lease for lease, _ in tries])
    kept = [(lease, tried) for lease, tried in tries if lease.key in ours]
    _set(connection, [(lease, {**_ended("done", tried), "reason": None}) for lease, tried in kept])
    if kept:
        rows = [_attempt(lease.job_id, tried) for lease, tried in kept]
        connection.execute(insert(Attempt), rows)
    return ours


def reschedule(
    connection: Connection,
    lease: Lease,
    tried: AttemptOutcome,
    *,
    after: float,
    failed: bool,
    answered: bool = False,
) -> None:
    """running -> pending, due in `after` seconds; counts a failure or a wait.

    `answered` means that the sender spoke of the subject itself: a failure then says that it does
    not know it, a wait that it does.
    """
    counted: dict[str, Any] = (
        {"failures": col(Job.failures) + 1, "waits": 0} if failed else {"waits": col(Job.waits) + 1}
    )
    if answered:
        since = func.coalesce(col(Job.missing_since), tried.started_at)
        counted["missing_since"] = since if failed else None
    _move(
        connection,
        lease,
        **_pending(tried, after),
        trying_since=func.coalesce(col(Job.trying_since), tried.started_at),
        **counted,
    )
    _record(connection, lease.job_id, tried)


def put_back(connection: Connection, lease: Lease, tried: AttemptOutcome) -> None:
    """running -> pending, due at once: it waits for its source, and nothing is counted."""
    _move(connection, lease, **_pending(tried, after=0))
    _record(connection, lease.job_id, tried)


def bury(connection: Connection, lease: Lease, tried: AttemptOutcome) -> None:
    """running -> dead."""
    _move(connection, lease, **_ended("dead", tried), reason=tried.detail)
    _record(connection, lease.job_id, tried)


def give_back(connection: Connection, leases: Iterable[Lease], *, now: datetime) -> None:
    """running -> pending for a polite stop: due at once, the claim not counted."""
    for lease in leases:
        connection.execute(
            _held(lease).values(
                status="pending",
                claims=case((col(Job.claims) > 0, col(Job.claims) - 1), else_=0),
                lease_token=None,
                lease_until=None,
                next_attempt_at=now,
            )
        )


def release(connection: Connection, *, now: datetime, all_of_them: bool = False) -> int:
    """running -> pending (or dead) where the lease ran out; returns how many.

    `all_of_them` is for the start of the only worker there can be: whatever runs, runs nowhere.
    It is due as it was, not behind all that waits. A job that was claimed more than thrice without
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
            .values(
                status="pending",
                claims=0,
                failures=0,
                waits=0,
                progress=None,
                trying_since=None,
                missing_since=None,
                created_at=now,
                next_attempt_at=now,
                ended_at=None,
            )
        )
    except IntegrityError as error:  # an endpoint has one live check
        raise NotFound(
            f"Dead letter {job_id} is not replayed: another check of its endpoint is alive."
        ) from error
    if moved.rowcount != 1:
        raise NotFound(f"There is no dead letter {job_id} that can be replayed: see `dead list`.")
    _record(connection, job_id, AttemptOutcome(now, 0.0, "replayed", "by an operator"))


def learn_subject(connection: Connection, endpoint_id: str, subject: str) -> None:
    """Tell the jobs of an endpoint what it was bound to, where they did not know."""
    connection.execute(
        update(Job)
        .where(col(Job.endpoint_id) == endpoint_id, col(Job.subject).is_(None))
        .values(subject=subject)
    )


# --- inside -------------------------------------------------------------------------------------


def _held(lease: Lease) -> Any:
    return update(Job).where(
        col(Job.id) == lease.job_id,
        col(Job.status) == "running",
        col(Job.lease_token) == lease.token,
    )


def _move(connection: Connection, lease: Lease, **values: Any) -> None:
    if connection.execute(_held(lease).values(**values)).rowcount != 1:
        raise lost(lease)


def _set(connection: Connection, moves: Sequence[tuple[Lease, dict[str, Any]]]) -> None:
    """Set the same columns of many jobs, which were fenced, by one statement."""
    if moves:
        connection.execute(
            _setting(tuple(moves[0][1])),
            [{"of_job": lease.job_id, **values} for lease, values in moves],
        )


@cache
def _setting(names: tuple[str, ...]) -> Executable:
    parameters: Any = {name: bindparam(name) for name in names}
    return update(Job).where(col(Job.id) == bindparam("of_job")).values(parameters)


def _pending(tried: AttemptOutcome, after: float) -> dict[str, Any]:
    return {
        "status": "pending",
        "lease_token": None,
        "lease_until": None,
        "claims": 0,
        "next_attempt_at": tried.ended_at + timedelta(seconds=after),
        "reason": tried.detail,
    }


def _ended(status: str, tried: AttemptOutcome) -> dict[str, Any]:
    return {
        "status": status,
        "lease_token": None,
        "lease_until": None,
        "claims": 0,
        "ended_at": tried.ended_at,
    }


def _record(connection: Connection, job_id: int, tried: AttemptOutcome) -> None:
    connection.execute(insert(Attempt).values(**_attempt(job_id, tried)))


def _attempt(job_id: int, tried: AttemptOutcome) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "started_at": tried.started_at,
        "milliseconds": tried.milliseconds,
        "outcome": tried.outcome,
        "detail": tried.detail,
    }
