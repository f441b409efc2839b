"""Verification of one batch: its status, its listing, then what that did not show."""

from functools import partial

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from receiver.errors import FetchError, Missing, RateLimited, SourceRefused
from receiver.providers.capabilities.batches import HasBatches
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from receiver.sender_api.subjects import subject_of
from receiver.work.fetch.left_open import failed_of, fetch_left_open
from receiver.work.reconcile.patience import patiently
from receiver.work.reconcile.report import Left
from receiver.work.verify.comparison import absent, needs_own_call
from receiver.work.verify.listing import Part, listed
from receiver.work.verify.report import Report
from receiver.work.verify.runs import OwnCall, Runs, Stopped
from storage import TERMINAL, FetchedBatch, FetchedRun, Store


class BatchVerification:
    """Compares one batch into a report. In memory are the ids of its runs, and one page of it."""

    def __init__(
        self, store: Store, calls: Calls, batch_id: str, report: Report, *, repairs: bool
    ) -> None:
        self._store = store
        self._calls = calls
        self._batch_id = batch_id
        self._source = calls.source.name
        self._report = report
        self._runs = Runs(store, self._source, report, repairs=repairs)
        self._named: set[str] = set()

    async def run(self, provider: HasBatches) -> None:
        """Compare all runs that the sender lists or that are known; raises Stopped."""
        subject = await self._subject()
        try:
            data = await patiently(lambda: self._calls.call(provider.batch(subject)))
            batch = provider.read_batch(data, subject)
            await self._listing(subject, batch)
            await self._others(subject, batch)
        except Missing:
            await self._gone()
        except FetchError as error:
            self._report.incomplete.append(Left.after(f"batch {self._batch_id}", error))
            if isinstance(error, RateLimited | SourceRefused):
                raise Stopped(str(error)) from error
        else:
            self._count(batch)

    async def _subject(self) -> Subject:
        known = await run_in_threadpool(
            lambda: self._store.batches.ledger(self._batch_id, source=self._source)
        )
        provider = self._calls.source.provider
        return subject_of(provider, "batch", self._batch_id, known=known)

    async def _listing(self, subject: Subject, batch: FetchedBatch) -> None:
        """Compare what the sender lists; runs that it shows too little of are fetched."""
        began = self._store.now()
        call = self._own_call(subject, batch)
        async for part in listed(self._store, self._calls, subject, batch):
            stored = await self._runs.stored([run.run_id for run in part])
            short = [r.run_id for r in part if needs_own_call(r, stored.get(r.run_id))]
            whole = [run for run in part if run.run_id not in short]
            self._named.update(run.run_id for run in part)
            await self._runs.compare(whole, stored, self._batch_id, began)
            await self._runs.fetch(short, stored, self._batch_id, call)

    async def _others(self, subject: Subject, batch: FetchedBatch) -> None:
        """Compare the runs that the listing did not name, of the batch's status and of the store.

        A run that has ended neither here nor there need not be asked for.
        """
        began = self._store.now()
        call = self._own_call(subject, batch)
        unlisted = [run for run in batch.runs if run.run_id not in self._named]
        going_on: Part = [run for run in unlisted if run.status not in TERMINAL]
        ended = [run.run_id for run in unlisted if run.status in TERMINAL]
        self._named.update(run.run_id for run in unlisted)
        await self._runs.compare(
            going_on, await self._runs.stored([r.run_id for r in going_on]), self._batch_id, began
        )
        await self._runs.fetch(ended, await self._runs.stored(ended), self._batch_id, call)
        pages = self._store.runs.pages(self._source, self._batch_id)
        async for page in iterate_in_threadpool(pages):
            unnamed = [run.run_id for run in page if run.run_id not in self._named]
            stored = await self._runs.stored(unnamed)
            idle = [r for r in unnamed if not batch.is_terminal and stored[r].result is None]
            self._report.going_on += len(idle)
            self._named.update(unnamed)
            asked = [run_id for run_id in unnamed if run_id not in idle]
            await self._runs.fetch(asked, stored, self._batch_id, call)

    def _own_call(self, subject: Subject, batch: FetchedBatch) -> OwnCall:
        return partial(self._fetch, subject, failed_of(batch.runs))

    async def _fetch(
        self, subject: Subject, failed: dict[str, FetchedRun], run_id: str
    ) -> FetchedRun:
        return await fetch_left_open(self._calls, run_id, subject, failed)

    async def _gone(self) -> None:
        """Name every run of a batch that the sender has forgotten."""
        async for page in iterate_in_threadpool(
            self._store.runs.pages(self._source, self._batch_id)
        ):
            stored = await self._runs.stored([run.run_id for run in page])
            for run_id, known in stored.items():
                self._report.add(absent(run_id, known, self._batch_id))

    def _count(self, batch: FetchedBatch) -> None:
        """Compare the sender's counts with the runs that are named; some name only ended runs."""
        named, total = len(self._named), batch.total or 0
        if named >= total:
            return
        if not batch.is_terminal and named >= (batch.ended or 0):
            self._report.going_on += total - named
            return
        why = f"the sender counts {total} runs, and {named} are named"
        self._report.incomplete.append(Left(f"batch {self._batch_id}", why))
