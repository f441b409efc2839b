"""Checks of batches and endpoints, which need no webhook."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from storage import jobs
from storage.batches import batches
from storage.batches.batches import Watched
from storage.batches.ledger import Ledger
from storage.jobs import checks
from storage.jobs.new import new_job
from storage.runs.results import ResultPage

FIRST_CHECK = timedelta(minutes=2)
"""How long after its start the first check of an endpoint or a batch is due by default."""


def watch(
    connection: Connection,
    batch: Ledger | Watched,
    moment: datetime,
    *,
    first: timedelta,
    even_complete: bool = False,
) -> None:
    """Add a check for an open batch, unless it has one."""
    if batch.state == "open" or even_complete:
        mine = ("batch", batch.batch_id, batch.endpoint_id)
        enqueue_check(connection, batch.source, *mine, moment, first=first)


def watch_reopened(
    connection: Connection,
    source: str,
    pages: Sequence[ResultPage],
    moment: datetime,
    *,
    first: timedelta,
) -> None:
    """Open complete batches again, with a check, of which a page has a run without a result.

    A group may take more runs after its end, or a run may be tried again.
    """
    open_runs = (row.run for page in pages for row in page.rows if not row.run.is_result)
    names = {run.batch_id for run in open_runs if run.batch_id is not None}
    for batch in batches.reopen(connection, source, names):
        watch(connection, batch, moment, first=first)


def enqueue_check(
    connection: Connection,
    source: str,
    kind: str,
    resource: str | None,
    endpoint_id: str | None,
    moment: datetime,
    *,
    first: timedelta,
    every: float | None = None,
) -> None:
    """Add a check of a resource, due after `first` or, where given, `every` seconds."""
    job = new_job(
        "check",
        source=source,
        subject_kind=kind,
        subject=resource,
        endpoint_id=endpoint_id,
        due=moment + (first if every is None else timedelta(seconds=every)),
        progress=None if every is None else {"every": every},
        now=moment,
    )
    jobs.enqueue(connection, job)


def ensure_check(
    connection: Connection,
    source: str,
    kind: str,
    resource: str | None,
    endpoint_id: str | None,
    moment: datetime,
    *,
    first: timedelta,
) -> int:
    """Return the id of the live check of a resource or of an endpoint, made where there is none.

    An endpoint has one live check: where that is about another resource, this one gets its own.
    """
    for owner in (endpoint_id, None):
        found = checks.live(connection, kind, source, resource, owner)
        if found is None:
            enqueue_check(connection, source, kind, resource, owner, moment, first=first)
            found = checks.live(connection, kind, source, resource, owner)
        if found is not None:
            return found
    raise AssertionError(f"no check of {kind} {resource} can be made")
