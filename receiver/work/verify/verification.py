"""Verification of one source: its batches one by one, then the single runs."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from receiver.errors import Missing, NotReady
from receiver.providers.capabilities.batches import HasBatches
from receiver.sender_api.calls import Calls
from receiver.sender_api.subjects import ask_first_that_knows, subject_of
from receiver.work.reconcile.report import Left
from receiver.work.verify.batch import BatchVerification
from receiver.work.verify.report import Report
from receiver.work.verify.runs import Runs, Stopped
from storage import FetchedRun, Store

Compare = Callable[[Report, bool], Awaitable[None]]
"""A comparison into a report; True where it repairs what differs."""


class Verification:
    """Compares what is stored of one source; with `repairs` it stores what the sender shows.

    `compared` is called with the report after each batch, and after each page of single runs.
    """

    def __init__(
        self,
        store: Store,
        calls: Calls,
        *,
        repairs: bool = False,
        compared: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._calls = calls
        self._name = calls.source.name
        self._provider = calls.source.provider
        self._repairs = repairs
        self._compared = compared
        self.report = Report(self._name)

    async def all(self) -> Report:
        """Compare every batch and every single run; whatever the sender does is in the report."""
        return await self._report(self._all)

    async def batch(self, batch_id: str) -> Report:
        """Compare one batch, which must be known here."""
        return await self._report(partial(self._batch, batch_id))

    async def _report(self, verify: Callable[[], Awaitable[None]]) -> Report:
        try:
            await verify()
        except Stopped as stopped:
            self.report.incomplete.append(Left("everything after that", str(stopped)))
        self.report.calls = self._calls.made
        return self.report

    async def _all(self) -> None:
        async for page in iterate_in_threadpool(self._store.batches.pages(self._name)):
            for batch_id in page:
                await self._batch(batch_id)
        async for runs in iterate_in_threadpool(self._store.runs.pages(self._name, None)):
            kinds = {run.run_id: run.kind or self._provider.run_kind for run in runs}
            await self._again_if_repaired(partial(self._single_runs, kinds))

    async def _batch(self, batch_id: str) -> None:
        if isinstance(self._provider, HasBatches):
            await self._again_if_repaired(partial(self._compare_batch, self._provider, batch_id))

    async def _again_if_repaired(self, compare: Compare) -> None:
        """Compare, and compare again after a repair: what then differs is what is reported."""
        first = Report(self._name)
        try:
            await compare(first, self._repairs)
            if first.repaired:
                second = Report(self._name, repaired=first.repaired)
                first = second
                await compare(second, False)
        finally:
            self.report.merge(first)
            self._compared(self.report)

    async def _compare_batch(
        self, provider: HasBatches, batch_id: str, report: Report, repairs: bool
    ) -> None:
        batch = BatchVerification(self._store, self._calls, batch_id, report, repairs=repairs)
        await batch.run(provider)
        if report.repaired and repairs:
            await run_in_threadpool(self._check_if_open, batch_id)

    def _check_if_open(self, batch_id: str) -> None:
        """Have a repaired batch checked soon, which finds that it is complete now, or is not."""
        known = self._store.batches.watched(self._name, batch_id)
        if known is not None and known.state == "open":
            self._store.batches.check(self._name, batch_id, by="reconcile")

    async def _single_runs(self, kinds: dict[str, str], report: Report, repairs: bool) -> None:
        runs = Runs(self._store, self._name, report, repairs=repairs)
        stored = await runs.stored(list(kinds))

        async def call(run_id: str) -> FetchedRun:
            known = await run_in_threadpool(self._store.runs.find, self._name, run_id)
            subject = subject_of(self._provider, kinds[run_id], run_id, known=known)
            return await ask_first_that_knows(
                self._calls, subject, passing_over=(Missing, NotReady)
            )

        await runs.fetch(list(kinds), stored, None, call)
