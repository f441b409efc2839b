"""Fetching a batch: its status, its listing, then each run that the listing left open."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from receiver.errors import (
    FetchError,
    Forbidden,
    Missing,
    NotReady,
    Refused,
    Unavailable,
    Unbound,
    Unreadable,
)
from receiver.providers.capabilities.batches import HasBatches, ListsBatches
from receiver.providers.model import Subject
from receiver.sender_api.calls import AnswerTooLarge
from receiver.sender_api.subjects import subject_of
from receiver.work.fetch.context import FetchContext
from receiver.work.fetch.late_outputs import with_output
from receiver.work.fetch.left_open import failed_of, fetch_left_open
from receiver.work.fetch.listing import BatchListing
from receiver.work.fetch.listing_progress import CursorsRefused
from storage import EndpointView, FetchedBatch, FetchedRun, Lease, Ledger, NotFound

RUNS_AT_ONCE = 8
"""Runs that a listing left open are fetched in groups of this size."""

LISTED_IN_VAIN = 2
LISTED_IN_VAIN_AT_ALL = 8
"""Attempts in a row without anything new after which an ended batch is fetched without a listing:
those that ended with an unreadable answer, and those that failed for whatever reason."""

PAGE_SECONDS = 6.0
"""While somebody waits for a batch that goes on, its listings cost no more than a page in so long:
ten calls a minute, however large the batch is."""

ALMOST_SECONDS = 5.0
"""A batch whose results are all here is asked for its final status again after so long."""


class BatchFetch:
    """Fetches the batches of one source."""

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._store = context.store
        self._calls = context.calls
        self._provider = context.provider
        self._listing = BatchListing(context.store, context.calls)

    async def fetch(self, lease: Lease, endpoint: EndpointView | None) -> str:
        """Do what a job about a batch is for; raises and returns what `Fetch.attempt` does."""
        provider = self._provider
        if not isinstance(provider, HasBatches):
            raise Refused(f"the sender of source {lease.source} has no batches")
        batch_id = lease.subject or (endpoint and endpoint.resource)
        if not batch_id:
            batch_id = await self._find_by_our_url(lease)
        subject = await self._subject(lease, endpoint, batch_id)
        began = self._store.now()
        answer = await self._calls.call(provider.batch(subject))
        batch = provider.read_batch(answer, subject)
        _refuse_another_url(endpoint, batch)
        await self._context.bind(endpoint, batch_id)
        ledger = await run_in_threadpool(self._store.batches.save, lease, batch)
        if batch.runs:
            await self._context.store_runs(lease, batch.runs, began)
            ledger = await self._ledger(lease, batch_id)
        ledger, stuck = await self._fetch_runs(lease, subject, batch, ledger=ledger)
        sentence = f"{ledger.stored} of {ledger.expected} results stored"
        is_here = ledger.state == "complete" and not await self._open_runs(subject, lease)
        if is_here or not lease.progress.get("awaits_end", True):
            return sentence
        if stuck is not None:
            raise stuck
        almost = ALMOST_SECONDS if 0 < ledger.expected == ledger.stored else None
        raise NotReady(f"{sentence}, batch is {batch.sender_status}", retry_after=almost)

    async def _fetch_runs(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, *, ledger: Ledger
    ) -> tuple[Ledger, Unavailable | None]:
        """Fetch the runs that may be new; returns the ledger and why a listing got stuck."""
        stuck = None
        is_listed = self._is_worth_listing(lease, batch, ledger)
        if is_listed:
            lease.progress["listed_at"] = self._store.now().isoformat()
            promised = (batch.ended or 0) - ledger.stored
            stuck = await self._list(lease, subject, batch, promised=promised)
            self._listing.forget(lease)
        elif batch.is_terminal:  # a run may have ended once more, with another result
            await self._fetch_open_runs(lease, subject, since=None, fallback=batch.runs)
        if is_listed or batch.is_terminal:
            ledger = await run_in_threadpool(self._store.batches.settle, lease, batch)
        return ledger, stuck

    async def _list(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, *, promised: int
    ) -> Unavailable | None:
        """List the batch, then fetch the runs that the listing left open.

        All known runs of an ended batch can be fetched one by one even where no listing comes to
        its end; then the error of the listing is returned.
        """
        stuck = None
        try:
            since = await self._listing.run(lease, subject, batch, promised=promised)
        except Unavailable as error:
            if not batch.is_terminal or not _is_stuck(lease, error):
                raise
            stuck, since = error, self._store.now()
        unseen_since = since if batch.is_terminal else None
        await self._fetch_open_runs(lease, subject, since=unseen_since, fallback=batch.runs)
        return stuck

    async def _subject(self, lease: Lease, endpoint: EndpointView | None, batch_id: str) -> Subject:
        known = None
        if self._provider.below_tasks:
            with contextlib.suppress(NotFound):
                known = await self._ledger(lease, batch_id)
        return subject_of(self._provider, "batch", batch_id, endpoint=endpoint, known=known)

    async def _ledger(self, lease: Lease, batch_id: str) -> Ledger:
        return await run_in_threadpool(
            lambda: self._store.batches.ledger(batch_id, source=lease.source)
        )

    def _is_worth_listing(self, lease: Lease, batch: FetchedBatch, ledger: Ledger) -> bool:
        """Return True where a listing can bring something new.

        A listing that cannot be resumed brings everything again. While the batch goes on, it must
        bring at least as much new as is here, so that all listings together bring no more than
        twice the batch; unless somebody reconciles, or waits (then a page every PAGE_SECONDS).
        """
        if batch.is_terminal:
            return not self._context.gathers or ledger.stored < ledger.expected
        new = (batch.ended or 0) - ledger.stored
        if new <= 0 or self._listing.resumes:
            return new > 0
        is_news = lease.kind != "check" and not self._context.gathers
        is_wanted = lease.hurried_by == "reconcile" or self._may_show_progress(lease, batch)
        return is_news or new >= ledger.stored or is_wanted

    def _may_show_progress(self, lease: Lease, batch: FetchedBatch) -> bool:
        """Return True where somebody waits and the last listing was long enough ago."""
        if lease.hurried_by != "wait":
            return False
        last = lease.progress.get("listed_at")
        if last is None:
            return True
        since = self._store.now() - datetime.fromisoformat(last)
        return since.total_seconds() >= PAGE_SECONDS * self._listing.pages(batch.total or 0)

    # --- one by one ----------------------------------------------------------------------------

    async def _fetch_open_runs(
        self,
        lease: Lease,
        batch: Subject,
        *,
        since: datetime | None,
        fallback: Sequence[FetchedRun],
    ) -> None:
        """Fetch one by one the runs that a listing named without a result, or did not name.

        `since` is None where the listing need not have named all. A run that failed and that has
        no call of its own is taken from `fallback`: it has no output that could be lost.
        """
        failed_runs = failed_of(fallback)
        errors: list[FetchError] = []
        fetched: set[str] = set()
        while True:
            limit = RUNS_AT_ONCE + len(fetched)
            open_runs = await self._open_runs(batch, lease, since=since, limit=limit)
            group = [run_id for run_id in open_runs if run_id not in fetched][:RUNS_AT_ONCE]
            if not group:
                break
            fetched.update(group)
            errors += await self._fetch_group(lease, batch, group, failed_runs=failed_runs)
        if errors:
            raise min(errors, key=_hopelessness)

    async def _fetch_group(
        self,
        lease: Lease,
        batch: Subject,
        group: Sequence[str],
        *,
        failed_runs: dict[str, FetchedRun],
    ) -> list[FetchError]:
        """Fetch and store a group of runs; returns the errors of those that could not be."""
        began = self._store.now()
        answers = await asyncio.gather(
            *(fetch_left_open(self._calls, run_id, batch, failed_runs) for run_id in group),
            return_exceptions=True,
        )
        now = self._store.now()
        runs = [with_output(run, lease, now=now) for run in answers if isinstance(run, FetchedRun)]
        ours = [run for run in runs if run.batch_id in (None, batch.id)]
        await self._context.store_runs(lease, ours, began)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, FetchError):
                raise answer
        return [answer for answer in answers if isinstance(answer, FetchError)]

    async def _open_runs(
        self, batch: Subject, lease: Lease, *, since: datetime | None = None, limit: int = 1
    ) -> list[str]:
        """Return runs without the result of their end, or not seen `since`; see `unseen_runs`."""
        return await run_in_threadpool(
            lambda: self._store.runs.unseen(lease.source, batch.id, since=since, limit=limit)
        )

    async def _find_by_our_url(self, lease: Lease) -> str:
        """Find the batch whose create call's answer was lost, by our URL; raises Unbound."""
        if isinstance(self._provider, ListsBatches):
            answer = await self._calls.call(self._provider.batches())
            for batch in self._provider.read_batches(answer):
                if _is_ours(batch.webhook_url, lease.endpoint_id):
                    return batch.batch_id
        raise Unbound("no batch of the sender names this endpoint yet")


def _refuse_another_url(endpoint: EndpointView | None, batch: FetchedBatch) -> None:
    """Raise Refused where an endpoint is not bound yet and the batch names another URL."""
    if endpoint is None or endpoint.resource is not None or batch.webhook_url is None:
        return
    if not _is_ours(batch.webhook_url, endpoint.id):
        raise Refused(f"batch {batch.batch_id} names another webhook URL than this endpoint's")


def _hopelessness(error: FetchError) -> int:
    """Rank errors by how little another attempt helps: one refused run must not bury the job."""
    return {Refused: 3, Forbidden: 2, Missing: 1}.get(type(error), 0)


def _is_ours(url: str | None, endpoint_id: str | None) -> bool:
    return bool(url and endpoint_id) and str(url).rstrip("/").endswith(f"/{endpoint_id}")


def _is_stuck(lease: Lease, error: Unavailable) -> bool:
    """Return True where another listing would fail too, not because the sender is down."""
    if isinstance(error, CursorsRefused):
        return True
    is_unreadable = isinstance(error, Unreadable | AnswerTooLarge)
    return lease.failures >= (LISTED_IN_VAIN if is_unreadable else LISTED_IN_VAIN_AT_ALL)
