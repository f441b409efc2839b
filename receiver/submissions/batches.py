"""Creating batches so that no result is missed, and steering them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone, ReceiverError, UsageError
from receiver.providers.capabilities.batches import CallsBackPerRun, CancelsBatches
from receiver.providers.capabilities.require import (
    require_additions,
    require_batches,
    require_new_batches,
)
from receiver.providers.model import Created, NewTask, Plan, Subject
from receiver.sender_api.subjects import subject_of
from receiver.submissions.adding_tasks import AddingTasks
from receiver.submissions.base import Submissions
from receiver.submissions.callback_urls import usable_secret
from receiver.submissions.per_run_callbacks import PerRunCallbacks
from receiver.submissions.retries import may_have_acted
from storage import CannotStore, Ledger, StorageError


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to create. `skipped` tasks of the user's file were left out before these."""

    plan: Plan
    tasks: Sequence[NewTask]
    skipped: int = 0


class BatchSubmissions(Submissions):
    """Use cases on the batches of one source."""

    # --- creating ------------------------------------------------------------------------------

    async def create(
        self, new: NewBatch, *, created: Callable[[str], None], added: Callable[[int], None]
    ) -> str:
        """Create the batch so that its first webhook can be verified, and add the tasks.

        `created` is called with the batch's id, `added` with how many tasks the sender has accepted
        so far. Raises NotDone that says what exists and what to do where a step failed, and
        UsageError where nothing could be begun.
        """
        provider = require_new_batches(self._provider)
        try:
            provider.check(new.plan, new.tasks)
        except ValueError as error:
            raise UsageError(f"The batch was not created: {error}.") from None
        if isinstance(provider, CallsBackPerRun):
            batch_id = await self._beside(PerRunCallbacks).submit(new.plan, new.tasks)
            created(batch_id)
            added(len(new.tasks))
            return batch_id
        if provider.announced_at == "account":
            defaults = provider.defaults(new.plan, new.tasks)
            batch_id = await self._create_for_account(new.plan, defaults)
        else:
            batch_id = await self._create_with_endpoint(new.plan)
        created(batch_id)
        await self.add(batch_id, new.tasks, added=added, skipped=new.skipped)
        return batch_id

    async def add(
        self,
        batch_id: str,
        tasks: Sequence[NewTask],
        *,
        added: Callable[[int], None],
        skipped: int = 0,
    ) -> None:
        """Add tasks to a batch; see `AddingTasks.add`."""
        adding = self._beside(AddingTasks)
        await adding.add(batch_id, tasks, added=added, skipped=skipped)

    async def _create_with_endpoint(self, plan: Plan) -> str:
        """Make the endpoint, then the batch, then store its secret, which nobody shows again."""
        self._reachable()  # a wrong setting is an error before anything is made
        endpoint_id = await run_in_threadpool(self._store.endpoints.add, self._source.name, "batch")
        try:
            batch = await self._create(plan, self._webhook_url(endpoint_id))
        except FetchError as error:
            raise await self._not_created(endpoint_id, error) from error
        await self._register(plan, batch, endpoint_id)
        return batch.id

    async def _create_for_account(self, plan: Plan, defaults: Mapping[str, Any] | None) -> str:
        """Make a batch that is announced at the account's own URL, with the account's secret."""
        self._beside(AddingTasks).callback()  # a wrong setting is an error before anything is made
        try:
            batch = await self._create(plan, None)
        except FetchError as error:
            sentence = f"The batch was not created, and nothing was run: {error}."
            raise self._failed(sentence) from error
        try:
            await self._keep_trying(
                lambda: self._store.batches.register(
                    self._source.name,
                    batch.id,
                    endpoint_id=None,
                    name=plan.name,
                    runner=plan.runner,
                    defaults=defaults,
                )
            )
        except StorageError as error:
            raise NotDone(
                f"The sender made {batch.id}, still without runs, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Once that is mended, create the batch again."
            ) from error
        return batch.id

    async def _create(self, plan: Plan, url: str | None) -> Created:
        provider = require_additions(self._provider)
        request = provider.create_batch(plan, webhook_url=url)
        return provider.read_created(await self._call(request))

    async def _register(self, plan: Plan, batch: Created, endpoint_id: str) -> None:
        """Store the new batch with its secret; raises NotDone."""
        secret = usable_secret(
            self._source, batch, endpoint_id, warn=self._warn, first=self._first_check
        )
        try:
            await self._keep_trying(
                lambda: self._store.batches.register(
                    self._source.name,
                    batch.id,
                    endpoint_id=endpoint_id,
                    secret=secret,
                    name=plan.name,
                    runner=plan.runner,
                )
            )
        except StorageError as error:
            first = self._first_check
            raise NotDone(_not_registered(batch.id, endpoint_id, error, first)) from error

    async def _not_created(self, endpoint_id: str, error: Exception) -> ReceiverError:
        """Return the error; close the endpoint unless the sender may have made the batch."""
        if may_have_acted(error):
            return NotDone(
                f"The answer to the create call was lost ({error}). If the sender made the batch, "
                f"its results are found without a webhook: see endpoint {endpoint_id} in "
                f"`endpoint list`, and `batch list` after {self._first_check}. Create it again "
                "only if nothing shows there."
            )
        with suppress(StorageError):  # an endpoint that stays open, with its checks, does no harm
            await run_in_threadpool(self._store.endpoints.close, endpoint_id)
            await run_in_threadpool(self._store.jobs.end_checks, endpoint_id)
        return self._failed(f"The batch was not created: {error}.")

    # --- steering ------------------------------------------------------------------------------

    async def cancel(self, batch_id: str) -> None:
        """Cancel the batch; raises NotDone with the sender's answer where it refuses."""
        subject, provider = await self._subject(batch_id), self._provider
        if not isinstance(provider, CancelsBatches):
            raise UsageError(
                f"{batch_id} was not cancelled: the API of source {self._source.name} has no call "
                "for it."
            )
        try:
            await self._call(provider.cancel_batch(subject))
        except FetchError as error:
            raise self._failed(f"{batch_id} was not cancelled: {error}.") from error
        with suppress(FetchError, CannotStore):  # it is cancelled, whether we see that or not
            await self.look(batch_id)
        await self._check_soon(batch_id)

    async def status(self, batch_id: str) -> None:
        """Fetch the status, and have the results fetched that are there; raises NotDone."""
        try:
            await self.look(batch_id)
        except FetchError as error:
            raise self._failed(f"The sender did not tell of {batch_id}: {error}.") from error
        await self._check_soon(batch_id)

    async def look(self, batch_id: str) -> Ledger:
        """Fetch and store the batch's status; raises FetchError, and NotFound."""
        subject = await self._subject(batch_id)
        provider = require_batches(self._provider)
        batch = provider.read_batch(await self._calls.call(provider.batch(subject)), subject)
        return await run_in_threadpool(self._store.batches.note, self._source.name, batch)

    async def _subject(self, batch_id: str) -> Subject:
        return subject_of(self._provider, "batch", batch_id, known=await self._ledger(batch_id))

    async def _ledger(self, batch_id: str) -> Ledger:
        return await run_in_threadpool(
            lambda: self._store.batches.ledger(batch_id, source=self._source.name)
        )

    async def _check_soon(self, batch_id: str) -> None:
        """Make the batch's check due now; where that cannot be stored, it comes when it is due."""
        with suppress(CannotStore):
            ledger = await self._ledger(batch_id)
            if ledger.state == "open":
                await run_in_threadpool(self._store.batches.check, self._source.name, batch_id)


def _not_registered(batch_id: str, endpoint_id: str, error: Exception, first: str) -> str:
    """Return the sentence for a batch that could not be stored, without its secret.

    The secret would stay in the terminal's history and in logs.
    """
    return (
        f"The sender made {batch_id}, still without tasks, but it could not be stored here: "
        f"{str(error).rstrip('.')}. Its signing secret is lost with that. Once that is mended, "
        f"create the batch again; or keep {batch_id}, whose results are found without webhooks: "
        f"its endpoint finds it by our URL (`batch list` shows it after {first}), then "
        f"`batch add {batch_id} --tasks FILE`. If the sender shows you its secret: "
        f"endpoint secret {endpoint_id} --resource {batch_id}."
    )
