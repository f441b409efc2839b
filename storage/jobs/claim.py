"""The statement of a claim: which of a source's due jobs are taken, and in which order."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Integer, Select, bindparam, func, literal, select, union_all, update
from sqlmodel import col

from storage.models import Job

SUSPECT_CLAIMS = 3
"""Claims without an outcome from which on a job runs only when no other such job does."""

TOLD = (
    "kind", "subject_kind", "subject", "endpoint_id", "event_id", "failures", "waits",
    "created_at", "trying_since", "missing_since",
)  # fmt: skip
"""What a lease tells of its job as it stands in the table."""


@cache
def claiming() -> Any:
    """The statement of a claim, built once: building it costs ten times what running it does."""
    chosen = (
        select(col(Job.id))
        .where(col(Job.id).in_(_chosen()), col(Job.status) == "pending")
        .with_for_update(skip_locked=True)
        .cte()
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return (
        update(Job)
        .where(col(Job.id).in_(select(chosen.c.id)))
        .values(
            status="running",
            claims=col(Job.claims) + 1,
            lease_token=bindparam("token"),
            lease_until=bindparam("until"),
        )
        .returning(col(Job.id), col(Job.progress), *(col(getattr(Job, name)) for name in TOLD))
    )


def _chosen() -> Select[int | None]:
    """The jobs to claim: checks for half of the slots, others, then checks for what is left."""
    due = _due()
    is_check = col(Job.kind) == "check"
    most = bindparam("most", type_=Integer)
    turns = (
        due.where(is_check).limit(bindparam("most_checks", type_=Integer)),
        due.where(~is_check).limit(most),
        due.where(is_check).limit(most),
    )
    parts = [turn.subquery() for turn in turns]
    columns = [
        select(part.c.id, part.c.next_attempt_at, literal(turn).label("turn"))
        for turn, part in enumerate(parts)
    ]
    all_of_them = union_all(*columns).subquery()
    return (
        select(all_of_them.c.id)
        .group_by(all_of_them.c.id)
        .order_by(
            func.min(all_of_them.c.turn), func.min(all_of_them.c.next_attempt_at), all_of_them.c.id
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
    # a running suspect was claimed once more than it was when it was pending
    under_watch = select(col(Job.id)).where(
        col(Job.status) == "running", col(Job.source) == source, col(Job.claims) > SUSPECT_CLAIMS
    )
    next_suspect = (
        select(col(Job.id))
        .where(*is_due, is_suspect, ~under_watch.exists())
        .order_by(col(Job.next_attempt_at), col(Job.id))
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(col(Job.id), col(Job.next_attempt_at))
        .where(*is_due, ~is_suspect | (col(Job.id) == next_suspect))
        .order_by(col(Job.next_attempt_at), col(Job.id))
    )
