"""Claims: which of a source's due jobs are taken, and in which order."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Integer,
    Row,
    Select,
    bindparam,
    func,
    literal,
    select,
    union_all,
    update,
)
from sqlmodel import col

from storage.database import lock_name, statement
from storage.jobs.lease import LEASE_SECONDS, Lease
from storage.jobs.progress import Progress
from storage.models import FoundBy, Job

SUSPECT_CLAIMS = 3
"""Claims without an outcome from which on a job runs only when no other such job does."""

_COPIED = (
    "kind", "subject_kind", "subject", "endpoint_id", "event_id", "failures", "waits",
    "created_at", "trying_since", "missing_since", "hurried_by",
)  # fmt: skip
"""Columns of a job that its lease has under the same name."""


def lock_claims(connection: Connection, source: str) -> None:
    """Take the lock of a source's claims, each of which must see what the one before has taken.

    That may take a while, so read the clock afterwards.
    """
    lock_name(connection, f"claim {source}")


def claim(
    connection: Connection, source: str, *, limit: int, now: datetime, slots: int | None = None
) -> list[Lease]:
    """Take up to `limit` due jobs of `source`, the longest due first, but checks before others.

    One check may make many other jobs needless: a batch's listing brings what all the events of
    its runs announce. Checks take half of the slots at most, and one at least. Of the jobs that
    were claimed SUSPECT_CLAIMS times without an outcome, one runs at a time: if several ran
    together, the one that kills its worker would take the others with it.

    `slots` is how many jobs of the source may run at once, over all processes; the caller holds
    the lock of `lock_claims` then.
    """
    if slots is not None:
        limit = min(limit, slots - _running(connection, source))
    if limit <= 0:
        return []
    token = secrets.token_hex(8)
    rows = connection.execute(
        _statement(),
        {
            "of_source": source,
            "moment": now,
            "most": limit,
            "most_checks": max(1, limit // 2),
            "token": token,
            "until": now + timedelta(seconds=LEASE_SECONDS),
        },
    ).all()
    return [_lease(row, source, token) for row in rows]


def claim_these(
    connection: Connection,
    source: str,
    job_ids: Sequence[int],
    *,
    limit: int,
    now: datetime,
    slots: int,
    by: FoundBy,
) -> list[Lease]:
    """Take up to `limit` of these jobs of `source` that are pending, whenever they are due.

    What they bring was found `by` whoever looks now. `slots` is as for `claim`, and the caller
    holds the same lock.
    """
    limit = min(limit, slots - _running(connection, source))
    if limit <= 0:
        return []
    token = secrets.token_hex(8)
    chosen = (
        select(col(Job.id))
        .where(col(Job.id).in_(job_ids), col(Job.source) == source, col(Job.status) == "pending")
        .order_by(col(Job.id))
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte()
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    rows = connection.execute(
        _taking().where(col(Job.id).in_(select(chosen.c.id))).values(hurried_by=by),
        {"token": token, "until": now + timedelta(seconds=LEASE_SECONDS)},
    ).all()
    return [_lease(row, source, token) for row in rows]


def _lease(row: Row[Any], source: str, token: str) -> Lease:
    progress: Progress = row.progress or Progress()
    return Lease(
        job_id=row.id,
        token=token,
        source=source,
        progress=progress,
        **{name: getattr(row, name) for name in _COPIED},
    )


def _running(connection: Connection, source: str) -> int:
    return int(_count_running(connection, of_source=source).scalar_one())


@statement
def _count_running(of_source: Any) -> Executable:
    return select(func.count()).where(col(Job.status) == "running", col(Job.source) == of_source)


@cache
def _statement() -> Any:
    """Return the statement of a claim, built once: that costs ten times what running it does."""
    chosen = (
        select(col(Job.id))
        .where(col(Job.id).in_(_chosen()), col(Job.status) == "pending")
        .with_for_update(skip_locked=True)
        .cte()
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return _taking().where(col(Job.id).in_(select(chosen.c.id)))


def _taking() -> Any:
    """Return the UPDATE that takes jobs, still without the ones that it takes."""
    return (
        update(Job)
        .values(
            status="running",
            claims=col(Job.claims) + 1,
            lease_token=bindparam("token"),
            lease_until=bindparam("until"),
        )
        .returning(col(Job.id), col(Job.progress), *(col(getattr(Job, name)) for name in _COPIED))
    )


def _chosen() -> Select[int | None]:
    """Select the jobs to claim: checks for half of the slots, others, checks for what is left."""
    due = _due()
    is_check = col(Job.kind) == "check"
    most = bindparam("most", type_=Integer)
    ranks = (
        due.where(is_check).limit(bindparam("most_checks", type_=Integer)),
        due.where(~is_check).limit(most),
        due.where(is_check).limit(most),
    )
    parts = [rank.subquery() for rank in ranks]
    columns = [
        select(part.c.id, part.c.next_attempt_at, literal(rank).label("rank"))
        for rank, part in enumerate(parts)
    ]
    all_of_them = union_all(*columns).subquery()
    return (
        select(all_of_them.c.id)
        .group_by(all_of_them.c.id)
        .order_by(
            func.min(all_of_them.c.rank), func.min(all_of_them.c.next_attempt_at), all_of_them.c.id
        )
        .limit(most)
    )


def _due() -> Select[int | None, datetime]:
    source: Any = bindparam("of_source")
    is_due = (
        col(Job.status) == "pending",
        col(Job.source) == source,
        col(Job.next_attempt_at) <= bindparam("moment"),
    )
    is_suspect = col(Job.claims) >= SUSPECT_CLAIMS
    # running, a suspect has one claim more than it had when it was pending
    running_suspect = select(col(Job.id)).where(
        col(Job.status) == "running", col(Job.source) == source, col(Job.claims) > SUSPECT_CLAIMS
    )
    next_suspect = (
        select(col(Job.id))
        .where(*is_due, is_suspect, ~running_suspect.exists())
        .order_by(col(Job.next_attempt_at), col(Job.id))
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(col(Job.id), col(Job.next_attempt_at))
        .where(*is_due, ~is_suspect | (col(Job.id) == next_suspect))
        .order_by(col(Job.next_attempt_at), col(Job.id))
    )
