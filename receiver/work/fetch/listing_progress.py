"""Progress of a listing: what it brought, stored together with how far it is."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Unavailable
from receiver.telemetry.logs import get_logger
from storage import FetchedRun, Lease, ListingProgress, Store, Stored

log = get_logger("fetch")

MAX_RESTARTS = 3
"""Times that one attempt restarts a listing because its cursor was refused."""


class CursorsRefused(Unavailable):
    """Had the cursor refused after each restart of a listing."""


async def store_runs(
    store: Store, lease: Lease, runs: Sequence[FetchedRun], *, fetched_at: datetime
) -> int:
    """Store runs with the job's progress; returns how many results are new. Raises LeaseLost."""
    stored = await run_in_threadpool(
        partial(
            store.results.store,
            *(lease, runs),
            fetched_at=fetched_at,
            progress=lease.progress,
        )
    )
    if runs:
        log_stored(lease, stored)
    return stored.new


def log_stored(lease: Lease, stored: Stored) -> None:
    """Log what a part of a listing brought."""
    log.info(
        "results stored",
        source=lease.source,
        job=lease.job_id,
        new=stored.new,
        versions=stored.versions,
        unchanged=stored.unchanged,
    )


def restart(listing: ListingProgress, error: FetchError) -> None:
    """Make a listing start at page one; raises CursorsRefused after MAX_RESTARTS."""
    listing.update({"cursor": None, "listed": 0, "restarts": listing["restarts"] + 1})
    if listing["restarts"] > MAX_RESTARTS:
        raise CursorsRefused(f"the page cursor is refused again and again: {error}") from error
