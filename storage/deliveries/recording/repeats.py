"""Deliveries of known events: counted, or kept with another fetch where the body differs."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlmodel import col

from storage import jobs
from storage.deliveries.recording.fetch_job import fetch_job
from storage.deliveries.recording.verified import VerifiedDelivery
from storage.jobs.progress import Progress
from storage.models import Delivery, Event, Job

MAX_BODIES = 5
"""Differing bodies kept for one event key; further ones cause a fetch, but are only counted."""


def record_repeats(
    connection: Connection, repeats: Sequence[tuple[bytes, VerifiedDelivery]], now: datetime
) -> set[bytes]:
    """Count equal bodies; keep differing ones and fetch again, since the sender's API decides.

    Each delivery comes with its key digest. The event's row is locked, since two machines may
    record it at once. Returns the digests of events that have just been pruned: they are new again.
    """
    gone: set[bytes] = set()
    counts = Counter((digest, delivery.digest) for digest, delivery in repeats)
    samples: dict[tuple[bytes, bytes], VerifiedDelivery] = {}
    for digest, delivery in repeats:
        samples.setdefault((digest, delivery.digest), delivery)
    for (key_digest, body_digest), copies in sorted(counts.items(), key=_by_event):
        event_id = connection.execute(
            select(col(Event.id)).where(col(Event.key_digest) == key_digest).with_for_update()
        ).scalar()
        if event_id is None:
            gone.add(key_digest)
            continue
        is_same = (col(Delivery.event_id) == event_id) & (col(Delivery.digest) == body_digest)
        if not _count(connection, is_same, copies, now):
            _keep_other_body(connection, event_id, samples[key_digest, body_digest], copies, now)
    return gone


def _by_event(counted: tuple[tuple[bytes, bytes], int]) -> bytes:
    """Return the key digest, to lock events in one order on all machines."""
    return counted[0][0]


def _count(connection: Connection, which: Any, copies: int, now: datetime) -> bool:
    counted = connection.execute(
        update(Delivery).where(which).values(copies=col(Delivery.copies) + copies, last_copy_at=now)
    )
    return counted.rowcount > 0


def _keep_other_body(
    connection: Connection, event_id: int, delivery: VerifiedDelivery, copies: int, now: datetime
) -> None:
    kept, newest = connection.execute(
        select(func.count(), func.max(col(Delivery.id))).where(col(Delivery.event_id) == event_id)
    ).one()
    if kept >= MAX_BODIES:
        _count(connection, col(Delivery.id) == newest, copies, now)
        if _is_fetch_pending(connection, event_id):
            return
    else:
        connection.execute(
            insert(Delivery).values(
                event_id=event_id,
                digest=delivery.digest,
                headers=delivery.headers,
                body=delivery.body,
                received_at=now,
                copies=copies - 1,
                last_copy_at=now if copies > 1 else None,
            )
        )
    if delivery.job_status is not None:
        _work_again(connection, event_id, delivery, delivery.job_status, now)


def _work_again(
    connection: Connection, event_id: int, delivery: VerifiedDelivery, status: str, now: datetime
) -> None:
    """Make another fetch: a stored result does not answer an event that came with another body."""
    progress: Progress = {"again": True, "awaits_end": delivery.awaits_end}
    job = fetch_job(delivery, event_id, status=status, progress=progress, now=now)
    jobs.enqueue(connection, job)


def _is_fetch_pending(connection: Connection, event_id: int) -> bool:
    """Return True while a fetch for this event is pending, which will see the news."""
    found = connection.execute(
        select(col(Job.id)).where(col(Job.event_id) == event_id, col(Job.status) == "pending")
    )
    return found.first() is not None
