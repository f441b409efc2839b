"""Reconciliation of one source: its steps, and what the outcome of each check means."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TypeVar

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from receiver.errors import FetchError, Missing, NotReady, RateLimited, SourceRefused, Unbound
from receiver.providers.capabilities.batches import HasBatches, ListsBatches
from receiver.sender_api.calls import Calls
from receiver.sender_api.subjects import subject_of
from receiver.work.reconcile.adoption import Adoption, note_unknown_runs
from receiver.work.reconcile.checks import Checks, Outcome
from receiver.work.reconcile.patience import patiently
from receiver.work.reconcile.report import Left, Report
from storage import Check, Store, Tally

T = TypeVar("T")

DEAD_AT_MOST = 1_000
"""Dead letters, the newest ones, that are looked at."""

IN_VAIN = 8
"""After so many checks in a row that the sender did not answer, the others are not attempted."""


class Reconciliation:
    """Looks, for one source, for what never arrived; `looked` is called after each step."""

    def __init__(
        self,
        store: Store,
        calls: Calls,
        public_url: str | None,
        *,
        looked: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._calls = calls
        self._source = calls.source
        self._provider = calls.source.provider
        self._looked = looked
        self._in_vain = 0
        self._stopped_by: FetchError | None = None
        self.report = Report(calls.source.name)
        self._adoption = Adoption(store, calls, public_url, self.report)

    async def run(self, *, since: datetime) -> Report:
        """Look for everything. What is complete here is looked at where it is newer than `since`.

        Raises CannotStore; whatever the sender does is in the report.
        """
        store, name = self._store, self._source.name
        await self._adoption.adopt_listed(since)
        if not isinstance(self._provider, ListsBatches):
            await self._grown(since)
        async with Checks(store, self._calls) as checks:
            await self._attempt_all(checks, store.unfinished.batches(name))
            await self._attempt_all(checks, store.unfinished.endpoints(name))
            kind = self._provider.run_kind
            await self._attempt_all(checks, store.unfinished.runs(name, kind=kind))
        if self._stopped_by is None:  # runs that the checks have found are known now
            await note_unknown_runs(store, self._calls, self.report, since=since)
        await run_in_threadpool(self._note_dead_letters)
        await run_in_threadpool(self._note_unfinished)
        self.report.calls = self._calls.made
        return self.report

    async def adopt(self, batch_id: str, *, task_id: str | None) -> Report:
        """Bring in one batch that other code created; raises FetchError where none is there."""
        await self._adoption.adopt(batch_id, task_id=task_id)
        check = await run_in_threadpool(self._store.unfinished.batch, self._source.name, batch_id)
        async with Checks(self._store, self._calls) as checks:
            await self._attempt(checks, check)
        self.report.calls = self._calls.made
        return self.report

    def _note_dead_letters(self) -> None:
        dead = self._store.jobs.list_dead(limit=DEAD_AT_MOST)
        mine = sum(letter["source"] == self._source.name for letter in dead)
        if mine:
            letters = "1 dead letter" if mine == 1 else f"{mine} dead letters"
            self.report.notes.append(
                f"{letters} may keep results away: see `dead list`, and `event replay` once the "
                "cause is mended"
            )

    def _note_unfinished(self) -> None:
        """Name the submissions that are not finished: their batches cannot become complete."""
        for known in self._store.submissions.list_all(source=self._source.name):
            what = f"batch {known.batch_id}" if known.batch_id else f"submission {known.id}"
            group = "task" if known.kind == "run" else "batch"
            left = f"{known.total - known.done} of its {known.total} tasks are not added yet"
            resume = f"resultsink {group} create --resume {known.id}"
            why = f"{left}. Unless a command is at it now, go on with: {resume}"
            self.report.incomplete.append(Left(what, why))

    # --- batches that are complete here ----------------------------------------

    async def _grown(self, since: datetime) -> None:
        """Ask for the status of complete batches, since a batch may grow after its end."""
        pages = self._store.unfinished.complete(self._source.name, since=since)
        await self._each(pages, self._note_status, "complete batches")

    async def _note_status(self, batch_id: str) -> None:
        provider, name = self._provider, self._source.name
        if not isinstance(provider, HasBatches):
            return
        known = await run_in_threadpool(lambda: self._store.batches.ledger(batch_id, source=name))
        subject = subject_of(provider, "batch", batch_id, known=known)
        self.report.looked += 1
        try:
            data = await patiently(lambda: self._calls.call(provider.batch(subject)))
            batch = provider.read_batch(data, subject)
        except Missing:  # forgotten by the sender, and complete here
            return
        except FetchError as error:
            self._leave(f"batch {batch_id}, complete here", error)
            return
        self._in_vain = 0
        await run_in_threadpool(self._store.batches.note, name, batch)

    # --- checks ----------------------------------------------------------------------------------

    async def _attempt_all(self, checks: Checks, pages: Iterator[list[Check]]) -> None:
        """Attempt the checks of all pages, as many at once as the source may have."""
        await self._each(pages, partial(self._attempt, checks), "checks")

    async def _each(
        self, pages: Iterator[list[T]], look: Callable[[T], Awaitable[None]], what: str
    ) -> None:
        """Look at all of these, as many at once as the source may have, until the sender stops it.

        What is left out then is counted as incomplete.
        """
        left_out = 0
        limit = asyncio.Semaphore(self._source.settings.concurrency)

        async def unless_stopped(item: T) -> bool:
            async with limit:
                if self._stopped_by is None:
                    await look(item)
                    return True
                return False

        async for page in iterate_in_threadpool(pages):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(unless_stopped(item)) for item in page]
            left_out += sum(not task.result() for task in tasks)
        if left_out:
            why = f"not looked at after the sender's last answer: {self._stopped_by}"
            self.report.incomplete.append(Left(f"{left_out} more {what}", why))

    async def _attempt(self, checks: Checks, check: Check) -> None:
        before = await self._tally(check)
        error = await checks.attempt(check)
        after = await self._tally(check)
        self.report.looked += 1
        self.report.found += max(0, after.runs - before.runs)
        self.report.fetched += max(0, after.results - before.results)
        await self._judge(check, error)
        self._looked(self.report)

    async def _tally(self, check: Check) -> Tally:
        if check.subject is None:
            return Tally(0, 0)
        return await run_in_threadpool(
            self._store.unfinished.tally, self._source.name, check.kind, check.subject
        )

    async def _judge(self, check: Check, error: Outcome) -> None:
        """Note what an outcome means; "not yet" is fine only where the sender is still working."""
        what = f"{check.kind} {check.subject or f'of endpoint {check.endpoint_id}'}"
        match error:
            case None:
                self._in_vain = 0
            case Unbound():
                self.report.unbound += 1
            case NotReady():
                self._in_vain = 0
                if await run_in_threadpool(self._has_ended, check):
                    self.report.incomplete.append(Left.after(what, error))
                elif not await run_in_threadpool(self._is_unfinished, check):
                    self.report.going_on += 1
            case _:
                self._leave(what, error)

    def _has_ended(self, check: Check) -> bool:
        """Return True where the sender says that more has ended than is stored."""
        if check.subject is None:
            return False
        if check.kind == "batch":
            ledger = self._store.batches.ledger(check.subject, source=self._source.name)
            return ledger.stored < ledger.announced
        known = self._store.runs.find(self._source.name, check.subject)
        status = self._provider.statuses.get((known and known.sender_status) or "")
        return known is not None and known.result is None and status == "completed"

    def _is_unfinished(self, check: Check) -> bool:
        """Return True where tasks of a batch are still to be added, which is noted at the end."""
        name = self._source.name
        return check.kind == "batch" and bool(
            self._store.submissions.list_all(source=name, batch_id=check.subject)
        )

    def _leave(self, what: str, error: FetchError) -> None:
        """Note what could not be looked at; the others are left too where that is the account."""
        self.report.incomplete.append(Left.after(what, error))
        self._in_vain += not isinstance(error, Missing)
        if isinstance(error, RateLimited | SourceRefused) or self._in_vain >= IN_VAIN:
            self._stopped_by = error
