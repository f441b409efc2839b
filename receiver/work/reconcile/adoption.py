"""Batches that are not known here, adopted: those that are announced to us, and one by its id."""

from contextlib import suppress
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError
from receiver.providers.capabilities.batches import HasBatches, ListsBatches
from receiver.providers.capabilities.runs import ListsRuns
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from receiver.sender_api.subjects import subject_of
from receiver.work.reconcile.account import endpoint_of, list_batches
from receiver.work.reconcile.patience import patiently
from receiver.work.reconcile.report import Left, Report
from storage import FetchedBatch, NotFound, Store


class Adoption:
    """Makes batches of one source known here, and names them in the report."""

    def __init__(self, store: Store, calls: Calls, public_url: str | None, report: Report) -> None:
        self._store = store
        self._calls = calls
        self._source = calls.source
        self._public_url = public_url
        self._report = report

    async def adopt(self, batch_id: str, *, task_id: str | None) -> None:
        """Adopt this batch, whoever is told of its end; raises FetchError where none is there."""
        provider = self._source.provider
        assert isinstance(provider, HasBatches)  # noqa: S101  the caller has refused others
        subject = Subject("batch", batch_id, task_id)
        if task_id is None:
            subject = await run_in_threadpool(self._known_subject, batch_id)
        data = await patiently(lambda: self._calls.call(provider.batch(subject)))
        await self._register(provider.read_batch(data, subject), None, task_id=task_id)

    def _known_subject(self, batch_id: str) -> Subject:
        known = None
        with suppress(NotFound):
            known = self._store.batches.ledger(batch_id, source=self._source.name)
        return subject_of(self._source.provider, "batch", batch_id, known=known)

    async def adopt_listed(self, since: datetime) -> None:
        """Adopt the account's batches that are announced to us; note how those known here stand."""
        provider, report = self._source.provider, self._report
        if not isinstance(provider, ListsBatches):
            report.notes.append(
                f"{provider.name} has no call that lists batches: only those known here are looked "
                "at; --adopt brings in another"
            )
            return
        try:
            listed = await list_batches(self._calls, provider, since=since)
        except FetchError as error:
            report.incomplete.append(Left.after("the sender's list of batches", error))
            return
        for batch in listed.batches:
            await self._adopt_if_ours(batch)
        if listed.gap is not None:
            report.incomplete.append(Left("the sender's list of batches", listed.gap))

    async def _adopt_if_ours(self, batch: FetchedBatch) -> None:
        name = self._source.name
        known = await run_in_threadpool(self._store.batches.watched, name, batch.batch_id)
        if known is not None:
            await run_in_threadpool(self._store.batches.note, name, batch)
            return
        endpoint_id = endpoint_of(batch.webhook_url, self._source, self._public_url)
        if endpoint_id is not None and await run_in_threadpool(self._is_ours, endpoint_id):
            await self._register(batch, endpoint_id or None, task_id=None)

    def _is_ours(self, endpoint_id: str) -> bool:
        """Return True for the account's own URL, and for an endpoint of this source."""
        view = self._store.endpoints.show(endpoint_id) if endpoint_id else None
        return not endpoint_id or (view is not None and view.source == self._source.name)

    async def _register(
        self, batch: FetchedBatch, endpoint_id: str | None, *, task_id: str | None
    ) -> None:
        """Know a batch from now on, and bind its endpoint where that is for nothing else yet."""
        name, store = self._source.name, self._store
        is_known = await run_in_threadpool(store.batches.watched, name, batch.batch_id) is not None
        if endpoint_id is not None:
            with suppress(NotFound):  # closed, or bound to another batch
                await run_in_threadpool(store.endpoints.bind, endpoint_id, batch.batch_id)
        await run_in_threadpool(
            lambda: store.batches.check(name, batch.batch_id, by="reconcile", task_id=task_id)
        )
        await run_in_threadpool(store.batches.note, name, batch)
        if not is_known:
            self._report.adopted.append(batch.batch_id)


async def note_unknown_runs(store: Store, calls: Calls, report: Report, *, since: datetime) -> None:
    """Name the account's single runs that are not known here, where the sender lists them.

    They do not say to whom they are announced, so none is adopted.
    """
    provider, name = calls.source.provider, calls.source.name
    if not isinstance(provider, ListsRuns):
        return
    try:
        listed = provider.read_runs(await patiently(lambda: calls.call(provider.runs())))
    except FetchError as error:
        report.incomplete.append(Left.after("the sender's list of single runs", error))
        return
    unknown = [
        run.run_id
        for run in listed
        if (run.created_at is None or run.created_at >= since)
        and await run_in_threadpool(store.runs.find, name, run.run_id) is None
    ]
    if unknown:
        are = "is" if len(unknown) == 1 else "are"
        report.notes.append(
            f"Of the single runs that the sender lists ({len(listed)}), {len(unknown)} {are} not "
            f"known here, such as {unknown[0]}; to bring one in: "
            f"endpoint add {name} --kind {provider.run_kind} --resource ID"
        )
