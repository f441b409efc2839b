"""Adding the tasks of a submission to its batch, in calls of as many as the sender takes."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone, NotReady, ReceiverError, Refused
from receiver.json_values import whole
from receiver.providers.capabilities.require import require_additions
from receiver.providers.model import Callback, NewTask, Subject
from receiver.submissions import addition_outcome
from receiver.submissions.addition_outcome import AdditionOutcome, Part
from receiver.submissions.base import Submissions, command_to_resume
from receiver.submissions.callback_urls import account_callback
from receiver.submissions.lost_calls import LostCalls, Undecided
from receiver.submissions.retries import may_have_acted
from storage import CannotStore, StorageError, Submission

FIRST_CALL = 1
"""The step of a submission while its first call is made."""


class AddingTasks(Submissions):
    """Adds tasks to one source's batches."""

    async def add(
        self, known: Submission, *, added: Callable[[int], None], repeat: bool = False
    ) -> Submission:
        """Add the tasks that are still to be added; `added` is called with how many are done.

        `repeat` makes a call again although it may have been carried out, where that cannot be
        found out. Raises NotDone that says what was added and how to go on.
        """
        defaults = await run_in_threadpool(
            self._store.batches.defaults_of, known.source, str(known.batch_id)
        )
        callback, was_lost = self.callback(), known.calling is not None
        while known.done < known.total:
            part = await self._part(known)
            outcome = None
            if known.calling is not None:
                outcome = await self._found_again(known, part, repeat=repeat)
                repeat = False
            if outcome is None:
                known = await self._keep_trying(
                    lambda at=known: self._store.submissions.calling(at, "runs")  # type: ignore[misc]
                )
                outcome = await self._call_for(known, part, defaults, callback)
            known = await self._store_outcome(known, part, outcome)
            added(known.done)
            self._complain(part, outcome)
        if was_lost:
            await self._conclude(known)
        return known

    async def _conclude(self, known: Submission) -> None:
        """Have the batch complete now where all results of lost calls are stored already."""
        subject = Subject("batch", str(known.batch_id))
        provider = require_additions(self._provider)
        with suppress(FetchError, CannotStore):  # its check does it later
            batch = provider.read_batch(await self._calls.call(provider.batch(subject)), subject)
            await run_in_threadpool(self._store.batches.conclude, self._source.name, batch)

    def callback(self) -> Callback | None:
        """Return the account's URL where runs are announced there; None where they are not.

        Also None, after a warning, where no webhook could be verified. Raises UsageError.
        """
        if self._provider.announced_at != "account":
            return None
        return account_callback(
            self._source, self._public_url, warn=self._warn, first=self._first_check
        )

    async def _part(self, known: Submission) -> Part:
        """Return the tasks of the next call, each with our mark where the sender has a place."""
        provider = require_additions(self._provider)
        stored = await run_in_threadpool(
            lambda: self._store.submissions.tasks(
                known, start=known.done, limit=provider.tasks_per_call
            )
        )
        tasks = [
            provider.marked(NewTask(task.task_id, task.body, task.input), f"{known.id}/{place}")
            for place, task in enumerate(stored, start=known.done)
        ]
        return Part(
            str(known.batch_id),
            tasks,
            known.done,
            known.total,
            known.skipped,
            command_to_resume(known),
        )

    async def _call_for(
        self, known: Submission, part: Part, defaults: dict[str, Any], callback: Callback | None
    ) -> AdditionOutcome:
        """Make the call that adds a part; raises NotDone."""
        provider = require_additions(self._provider)
        request = provider.add_tasks(
            Subject("batch", part.batch_id), part.tasks, defaults=defaults, callback=callback
        )
        try:
            answer = await self._call(request)
        except FetchError as error:
            if may_have_acted(error):
                lost = addition_outcome.lost(part, error)
                return await self._recover(known, part, lost, cause=error)
            raise await self._not_added(known, part, error) from error
        runs, count = provider.read_added(answer), _accepted_count(answer)
        if not runs and count is None:
            return await self._recover(known, part, addition_outcome.says_nothing(part))
        return addition_outcome.compare(runs, count, part.tasks)

    async def _recover(
        self, known: Submission, part: Part, sentence: str, *, cause: Exception | None = None
    ) -> AdditionOutcome:
        """Return what came of a call whose answer was lost just now; raises NotDone."""
        with suppress(FetchError, Undecided):
            found = await self._beside(LostCalls).runs(known, part)
            if found is not None:
                return found
        raise NotDone(sentence) from cause

    async def _found_again(
        self, known: Submission, part: Part, *, repeat: bool
    ) -> AdditionOutcome | None:
        """Return what came of a call that may have been made; None where it is to be made again.

        A call that left nothing behind is looked for once more when it can no longer be under way.
        Raises NotDone.
        """
        lost = self._beside(LostCalls)
        try:
            if (found := await lost.runs(known, part)) is None:
                await self._settle(known)
                found = await lost.runs(known, part)
            return found
        except Undecided as why:
            if repeat:
                return None
            raise NotDone(addition_outcome.undecided(part, why)) from None
        except FetchError as error:
            raise self._failed(addition_outcome.not_asked(part, error)) from error

    async def _store_outcome(
        self, known: Submission, part: Part, outcome: AdditionOutcome
    ) -> Submission:
        """Store what the sender accepted; raises NotDone."""
        count = len(part.tasks)
        try:
            return await self._keep_trying(
                lambda: self._store.submissions.added(
                    known,
                    outcome.runs,
                    done=count,
                    accepted=count - outcome.refused,
                )
            )
        except StorageError as error:
            raise NotDone(addition_outcome.not_stored(part, outcome, error)) from error

    def _complain(self, part: Part, outcome: AdditionOutcome) -> None:
        if outcome.unlisted:
            self._warn(addition_outcome.without_ids(part, outcome))
        if outcome.refused:
            raise NotDone(addition_outcome.too_few(part, outcome))

    async def _not_added(self, known: Submission, part: Part, error: FetchError) -> ReceiverError:
        """Return the error for a call that was refused, with how to go on."""
        if isinstance(error, Refused | NotReady) and await self._has_ended(part.batch_id):
            await self._keep_trying(lambda: self._store.submissions.end(known))
            return NotDone(addition_outcome.has_ended(part, error, self._source.name))
        is_undone = known.kind == "addition" and known.step == FIRST_CALL
        if is_undone:
            await self._keep_trying(lambda: self._store.submissions.undo(known))
        else:
            await self._keep_trying(lambda: self._store.submissions.not_called(known))
        return self._failed(addition_outcome.refused(part, error, is_undone=is_undone))

    async def _has_ended(self, batch_id: str) -> bool:
        provider = require_additions(self._provider)
        if provider.grows:
            return False
        subject = Subject("batch", batch_id)
        try:
            answer = await self._calls.call(provider.batch(subject))
            return provider.read_batch(answer, subject).is_terminal
        except FetchError:
            return False


def _accepted_count(answer: Any) -> int | None:
    """Return how many tasks the sender says it accepted; None where it gives no number."""
    return whole(answer.get("added")) if isinstance(answer, dict) else None
