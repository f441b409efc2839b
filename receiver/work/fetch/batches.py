"""Bringing in a batch: its status, what a listing brings, and one by one what that left open."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

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
from receiver.providers.model import Subject
from receiver.sender_api.calls import AnswerTooLarge
from receiver.work.fetch.context import FetchContext, with_output
from receiver.work.fetch.listing import CursorsRefused
from storage import EndpointView, FetchedBatch, FetchedRun, Lease, Ledger, NotFound

RUNS_AT_ONCE = 8
"""Runs that a listing left open are asked for in groups of this size."""

LISTED_IN_VAIN = 2
LISTED_IN_VAIN_AT_ALL = 8
"""After so many tries in a row that brought nothing, a batch is brought in without a listing: of
tries that ended with what cannot be read, and of tries that failed for whatever reason."""

ALMOST_SECONDS = 5.0
"""A batch of which nothing is missing but the sender's word is asked about again so soon."""


class FetchBatches(FetchContext):
    """Brings in batches."""

    async def fetch_batch(self, lease: Lease, endpoint: EndpointView | None) -> str:
        """Do what a job about a batch asks; see Fetch."""
        batch_id = lease.subject or (endpoint and endpoint.resource)
        if not batch_id:
            batch_id = await self._find_by_our_url(lease)
        subject = await self._batch_subject(lease, endpoint, batch_id)
        began = self.store.now()
        answer = await self.calls.call(self.provider.batch(subject))
        batch = self.provider.read_batch(answer, subject)
        _refuse_another_url(endpoint, batch)
        await self.bind(endpoint, batch_id)
        ledger: Ledger = await self.in_thread(self.store.batches.save, lease, batch)
        if batch.runs:
            await self.listing.keep(lease, batch.runs, began)
            ledger = await self.in_thread(
                lambda: self.store.batches.ledger(batch_id, source=lease.source)
            )
        refused = None
        lists = self._is_worth_listing(batch, ledger)
        if lists:
            missing = (batch.ended or 0) - ledger.stored
            refused = await self._bring_in(lease, subject, batch, missing)
            self.listing.forget(lease)
        elif batch.is_terminal:  # a run may have ended anew, and otherwise
            await self._ask_for_the_rest(lease, subject, None, fallback=batch.runs)
        if lists or batch.is_terminal:
            ledger = await self.in_thread(self.store.batches.settle, lease, batch)
        said = f"{ledger.stored} of {ledger.expected} results stored"
        is_here = ledger.state == "complete" and not await self._left(subject, lease)
        if is_here or not lease.progress.get("awaits_end", True):
            return said
        if refused is not None:
            raise refused
        almost = ALMOST_SECONDS if 0 < ledger.expected == ledger.stored else None
        raise NotReady(f"{said}, batch is {batch.sender_status}", retry_after=almost)

    async def _bring_in(
        self, lease: Lease, subject: Subject, batch: FetchedBatch, missing: int
    ) -> Unavailable | None:
        """List the batch, then ask for what that left open.

        Of one that has ended, all that we know of can be asked for, even where no listing comes to
        its end, however often it is tried; then why is returned.
        """
        refused = None
        try:
            since = await self.listing.run(lease, subject, batch, missing=missing)
        except Unavailable as error:
            if not batch.is_terminal or not _is_stuck(lease, error):
                raise
            refused, since = error, self.store.now()
        left = since if batch.is_terminal else None
        await self._ask_for_the_rest(lease, subject, left, fallback=batch.runs)
        return refused

    async def _batch_subject(
        self, lease: Lease, endpoint: EndpointView | None, batch_id: str
    ) -> Subject:
        task_id = endpoint.task_id if endpoint else None
        if task_id is None and self.provider.below_tasks:
            with contextlib.suppress(NotFound):
                ledger = await self.in_thread(
                    lambda: self.store.batches.ledger(batch_id, source=lease.source)
                )
                task_id = ledger.task_id
        return Subject("batch", batch_id, task_id)

    def _is_worth_listing(self, batch: FetchedBatch, ledger: Ledger) -> bool:
        """Whether a listing can bring something new.

        One that cannot resume brings everything again: while the batch goes on, it must bring at
        least as much as is here, so that all listings together bring no more than twice the batch.
        """
        new = (batch.ended or 0) - ledger.stored
        if not self.provider.gathers:
            return batch.is_terminal or new > 0
        if batch.is_terminal:
            return ledger.stored < ledger.expected
        return new > 0 and (self.provider.resumes or new >= ledger.stored)

    async def _ask_for_the_rest(
        self,
        lease: Lease,
        batch: Subject,
        since: datetime | None,
        *,
        fallback: Sequence[FetchedRun],
    ) -> None:
        """Ask one by one for runs that the listing ended without what they brought, or forgot.

        `since` is None where the listing may rightly not have named all. Of a run that failed, and
        is not known alone, the `fallback` is taken: there is no output to be lost with it.
        """
        fruitless = {run.run_id: run for run in fallback if run.status in ("failed", "cancelled")}
        failed: list[FetchError] = []
        asked: set[str] = set()
        while True:
            left = await self._left(batch, lease, since, limit=RUNS_AT_ONCE + len(asked))
            group = [run_id for run_id in left if run_id not in asked][:RUNS_AT_ONCE]
            if not group:
                break
            asked.update(group)
            began = self.store.now()
            told = await asyncio.gather(
                *(self.ask(Subject("run", run_id, batch.task_id)) for run_id in group),
                return_exceptions=True,
            )
            for place, run_id in enumerate(group):
                if isinstance(told[place], Missing | Refused) and run_id in fruitless:
                    told[place] = replace(fruitless[run_id], is_whole=True)
            moment = self.store.now()
            runs = [
                with_output(run, lease, now=moment) for run in told if isinstance(run, FetchedRun)
            ]
            mine = [run for run in runs if run.batch_id in (None, batch.id)]
            await self.listing.keep(lease, mine, began)
            for error in told:
                if isinstance(error, FetchError):
                    failed.append(error)
                elif isinstance(error, BaseException):
                    raise error
        if failed:
            raise min(failed, key=_hopelessness)

    async def _left(
        self, batch: Subject, lease: Lease, since: datetime | None = None, *, limit: int = 1
    ) -> list[str]:
        """Runs whose result is not here, or not that of their end; see `unseen_runs`."""
        return await self.in_thread(
            lambda: self.store.runs.unseen(lease.source, batch.id, since=since, limit=limit)
        )

    async def _find_by_our_url(self, lease: Lease) -> str:
        """The create call's answer was lost: look for our URL among the sender's batches."""
        request = self.provider.batches()
        if request is not None:
            for batch in self.provider.read_batches(await self.calls.call(request)):
                if _is_ours(batch.webhook_url, lease.endpoint_id):
                    return batch.batch_id
        raise Unbound("no batch of the sender names this endpoint yet")


def _refuse_another_url(endpoint: EndpointView | None, batch: FetchedBatch) -> None:
    """An endpoint that is not bound yet is bound to no batch that names another URL."""
    if endpoint is None or endpoint.resource is not None or batch.webhook_url is None:
        return
    if not _is_ours(batch.webhook_url, endpoint.id):
        raise Refused(f"batch {batch.batch_id} names another webhook URL than this endpoint's")


def _hopelessness(error: FetchError) -> int:
    """How little trying again can help: one refused run must not bury what the others need."""
    return {Refused: 3, Forbidden: 2, Missing: 1}.get(type(error), 0)


def _is_ours(url: str | None, endpoint_id: str | None) -> bool:
    return bool(url and endpoint_id) and str(url).rstrip("/").endswith(f"/{endpoint_id}")


def _is_stuck(lease: Lease, error: Unavailable) -> bool:
    """Whether listing again would end as it did: a sender that is down or slow will be back."""
    if isinstance(error, CursorsRefused):
        return True
    is_unreadable = isinstance(error, Unreadable | AnswerTooLarge)
    return lease.failures >= (LISTED_IN_VAIN if is_unreadable else LISTED_IN_VAIN_AT_ALL)
