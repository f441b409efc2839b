"""Creating batches so that no result is missed, and steering them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, UsageError
from receiver.providers.capabilities.batches import CallsBackPerRun, CancelsBatches
from receiver.providers.capabilities.require import require_batches, require_new_batches
from receiver.providers.model import NewTask, Plan, Subject
from receiver.sender_api.subjects import subject_of
from receiver.submissions.adding_tasks import AddingTasks
from receiver.submissions.base import Submissions, command_to_resume
from receiver.submissions.new_batches import NewBatches
from receiver.submissions.per_run_callbacks import PerRunCallbacks
from storage import CannotStore, EndpointPlan, Ledger, NewSubmission, StoredTask, Submission


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

        All of it is stored before the first call. `created` is called with the batch's id, `added`
        with how many tasks the sender has accepted so far. Raises NotDone that says what exists and
        how to go on where a step failed, and UsageError where nothing could be begun.
        """
        provider = require_new_batches(self._provider)
        try:
            provider.check(new.plan, new.tasks)
        except ValueError as error:
            raise UsageError(f"The batch was not created: {error}.") from None
        self._check_addresses()
        with_endpoint = not isinstance(provider, CallsBackPerRun) and (
            provider.announced_at == "endpoint"
        )
        known = await run_in_threadpool(
            lambda: self._store.submissions.begin(
                NewSubmission(
                    self._source.name,
                    "batch",
                    plan=asdict(new.plan),
                    defaults=provider.defaults(new.plan, new.tasks),
                    skipped=new.skipped,
                ),
                _stored(new.tasks),
                endpoint=EndpointPlan("batch") if with_endpoint else None,
            )
        )
        return await self._carry_on(known, created=created, added=added)

    async def add(
        self,
        batch_id: str,
        tasks: Sequence[NewTask],
        *,
        added: Callable[[int], None],
        skipped: int = 0,
    ) -> None:
        """Add tasks to a batch; `added` is called with how many the sender has accepted so far.

        `skipped` tasks of the user's file were left out before these. Raises NotDone that says
        what was added and how to go on, and UsageError where nothing can be added.
        """
        if isinstance(self._provider, CallsBackPerRun):
            raise UsageError(
                f"Nothing was added: all runs of a batch of source {self._source.name} are made "
                "together with it. Create another one with `batch create`."
            )
        self._check_addresses()
        await self._refuse_unfinished(batch_id)
        try:
            before = await self._counted(batch_id)
        except FetchError as error:
            raise self._failed(f"Nothing was added to {batch_id}: {error}.") from error
        known = await run_in_threadpool(
            lambda: self._store.submissions.begin(
                NewSubmission(
                    self._source.name,
                    "addition",
                    batch_id=batch_id,
                    before=before,
                    skipped=skipped,
                ),
                _stored(tasks),
            )
        )
        await self._carry_on(known, created=lambda _: None, added=added)

    async def resume(
        self,
        known: Submission,
        *,
        repeat: bool = False,
        created: Callable[[str], None],
        added: Callable[[int], None],
    ) -> str:
        """Go on with a submission where it stood; returns the batch's id, and raises as `create`.

        A call that may have been made is looked for at the sender first. Where that cannot tell,
        NotDone says so, unless `repeat` is given.
        """
        self._check_addresses()
        return await self._carry_on(known, repeat=repeat, created=created, added=added)

    async def give_up(self, known: Submission) -> None:
        """Forget a submission; what is made at the sender stays, and what was not added is not."""
        end = self._store.submissions.end if known.batch_id else self._store.submissions.undo
        if known.batch_id is None and known.calling in ("batch", "runs"):
            end = self._store.submissions.end  # its endpoint may still find the batch
        await run_in_threadpool(end, known)

    async def _carry_on(
        self,
        known: Submission,
        *,
        repeat: bool = False,
        created: Callable[[str], None],
        added: Callable[[int], None],
    ) -> str:
        try:
            if isinstance(self._provider, CallsBackPerRun):
                batch_id = await self._beside(PerRunCallbacks).submit(known, repeat=repeat)
                created(batch_id)
                added(known.total)
                return batch_id
            if known.batch_id is None:
                known = await self._beside(NewBatches).create(known)
            created(str(known.batch_id))
            await self._beside(AddingTasks).add(known, added=added, repeat=repeat)
            return str(known.batch_id)
        except (asyncio.CancelledError, CannotStore):
            self._warn(f"It is not finished. Go on with: {command_to_resume(known)}.")
            raise

    def _check_addresses(self) -> None:
        """Raise UsageError for a wrong setting, before anything is made."""
        if self._provider.announced_at == "account":
            self._beside(AddingTasks).callback()
        else:
            self._reachable()

    async def _refuse_unfinished(self, batch_id: str) -> None:
        """Raise UsageError where an earlier command has not added all of its tasks."""
        unfinished = await run_in_threadpool(
            lambda: self._store.submissions.list_all(source=self._source.name, batch_id=batch_id)
        )
        for known in unfinished:
            resume = command_to_resume(known)
            raise UsageError(
                f"Nothing was added: {known.total - known.done} tasks of an earlier command are "
                f"still to be added to {batch_id}. Go on with that one first ({resume}), or leave "
                f"them out ({resume} --give-up)."
            )

    async def _counted(self, batch_id: str) -> int:
        """Return how many runs the batch has, by the sender's count or ours, to tell new ones.

        The sender's count may be a moment old.
        """
        subject = Subject("batch", batch_id)
        provider = require_batches(self._provider)
        batch = provider.read_batch(await self._calls.call(provider.batch(subject)), subject)
        found = await run_in_threadpool(self._store.batches.note, self._source.name, batch)
        return found.expected

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


def _stored(tasks: Sequence[NewTask]) -> list[StoredTask]:
    return [StoredTask(task.task_id, task.body, task.input) for task in tasks]
