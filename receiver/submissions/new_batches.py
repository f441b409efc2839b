"""Creating an empty batch: its endpoint first, then the batch, then its secret is stored."""

from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone, ReceiverError
from receiver.providers.capabilities.require import require_additions
from receiver.providers.model import Created
from receiver.submissions.base import Submissions, command_to_resume, plan_of
from receiver.submissions.callback_urls import usable_secret
from receiver.submissions.lost_calls import LostCalls
from receiver.submissions.retries import may_have_acted
from storage import NewBatchRow, StorageError, Submission


class NewBatches(Submissions):
    """Creates the empty batches of one source's submissions."""

    async def create(self, known: Submission) -> Submission:
        """Return the submission with its batch, which is found again or made.

        An empty batch costs nothing, so that one that cannot be found is made once more. Raises
        NotDone that says what exists and how to go on.
        """
        is_first = known.calling is None
        if not is_first:
            if (found := await self._found_again(known)) is not None:
                return await self._register(known, Created(found, is_found=True))
            self._warn(
                "The batch of the first call is not to be found and is created again; if the "
                "sender made it after all, it is empty and costs nothing."
            )
        known = await self._keep_trying(lambda: self._store.submissions.calling(known, "batch"))
        try:
            made = await self._create(known)
        except FetchError as error:
            if may_have_acted(error):
                return await self._recover(known, error)
            raise await self._not_created(known, error, is_first=is_first) from error
        return await self._register(known, made)

    async def _create(self, known: Submission) -> Created:
        provider = require_additions(self._provider)
        url = None if known.endpoint_id is None else self._webhook_url(known.endpoint_id)
        request = provider.create_batch(plan_of(known), webhook_url=url)
        return provider.read_created(await self._call(request))

    async def _found_again(self, known: Submission) -> str | None:
        """Return the batch of a lost call, once that is no longer under way; raises NotDone."""
        lost = self._beside(LostCalls)
        try:
            if (found := await lost.batch(known)) is None:
                await self._settle(known)
                found = await lost.batch(known)
        except FetchError as error:
            raise self._failed(
                f"Whether the batch was created could not be asked: {error}. Once that is mended: "
                f"{command_to_resume(known)}."
            ) from error
        return found

    async def _recover(self, known: Submission, error: FetchError) -> Submission:
        """Go on with the batch of a call whose answer was lost just now; raises NotDone."""
        found = None
        with suppress(FetchError):
            found = await self._beside(LostCalls).batch(known)
        if found is not None:
            return await self._register(known, Created(found, is_found=True))
        raise NotDone(
            f"The answer to the create call was lost ({error}), and the sender does not show the "
            f"batch. Go on with: {command_to_resume(known)}."
        ) from error

    async def _register(self, known: Submission, batch: Created) -> Submission:
        """Store the new batch with its secret; raises NotDone."""
        secret = None
        if known.endpoint_id is not None:
            secret = usable_secret(
                self._source, batch, known.endpoint_id, warn=self._warn, first=self._first_check
            )
        plan = plan_of(known)
        new = NewBatchRow(
            endpoint_id=known.endpoint_id,
            secret=secret,
            name=plan.name,
            runner=plan.runner,
            defaults=known.defaults,
        )
        try:
            return await self._keep_trying(
                lambda: self._store.submissions.created(known, batch.id, new)
            )
        except StorageError as error:
            raise NotDone(_not_registered(known, batch.id, error)) from error

    async def _not_created(
        self, known: Submission, error: FetchError, *, is_first: bool
    ) -> ReceiverError:
        """Return the error for a refused call; nothing is kept where nothing may exist."""
        if is_first:
            with suppress(StorageError):  # what stays, an endpoint with its checks, does no harm
                await run_in_threadpool(self._store.submissions.undo, known)
            return self._failed(f"The batch was not created: {error}.")
        await self._keep_trying(lambda: self._store.submissions.not_called(known))
        return self._failed(
            f"The batch was not created: {error}. Once that is mended: {command_to_resume(known)}."
        )


def _not_registered(known: Submission, batch_id: str, error: Exception) -> str:
    """Return the sentence for a batch that could not be stored, without its secret.

    The secret would stay in the terminal's history and in logs.
    """
    sentence = (
        f"The sender made {batch_id}, still without tasks, but it could not be stored here: "
        f"{str(error).rstrip('.')}."
    )
    if known.endpoint_id is not None:
        sentence += (
            " Its signing secret is lost with that, and its results will be found without "
            "webhooks. If the sender shows you its secret: "
            f"endpoint secret {known.endpoint_id} --resource {batch_id}."
        )
    return f"{sentence} Once that is mended: {command_to_resume(known)}."
