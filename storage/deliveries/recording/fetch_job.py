"""The job that a delivery causes."""

from storage.deliveries.recording.verified import VerifiedDelivery
from storage.jobs.new import Moment, NewJob, new_job
from storage.jobs.progress import Progress


def fetch_job(
    delivery: VerifiedDelivery,
    event_id: int,
    *,
    status: str,
    progress: Progress | str | None,
    now: Moment,
) -> NewJob:
    """Return a fetch of the delivery's subject, due at once; a dead letter where `status` is."""
    return new_job(
        "fetch",
        source=delivery.source,
        subject_kind=delivery.subject_kind,
        subject=delivery.subject,
        endpoint_id=delivery.endpoint_id,
        event_id=event_id,
        status=status,
        due=now,
        progress=progress,
        reason=delivery.reason,
        now=now,
    )
