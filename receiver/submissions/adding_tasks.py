"""Adding tasks to a batch, in calls of as many as the sender takes."""

from collections.abc import Callable, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone, NotReady, ReceiverError, Refused, UsageError
from receiver.json_values import whole
from receiver.providers.capabilities.batches import CallsBackPerRun
from receiver.providers.capabilities.require import require_additions
from receiver.providers.model import Callback, NewTask, Subject
from receiver.submissions import addition_outcome
from receiver.submissions.addition_outcome import AdditionOutcome, Part
from receiver.submissions.base import Submissions
from receiver.submissions.callback_urls import account_callback
from receiver.submissions.retries import may_have_acted
from storage import StorageError


class AddingTasks(Submissions):
    """Adds tasks to one source's batches."""

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
        defaults = await run_in_threadpool(
            self._store.batches.defaults_of, self._source.name, batch_id
        )
        callback = self.callback()
        provider = require_additions(self._provider)
        size = provider.tasks_per_call
        for start in range(0, len(tasks), size):
            part = Part(batch_id, tasks[start : start + size], start, len(tasks), skipped)
            request = provider.add_tasks(
                Subject("batch", batch_id), part.tasks, defaults=defaults, callback=callback
            )
            try:
                answer = await self._call(request)
            except FetchError as error:
                raise await self._not_added(part, error) from error
            await self._expect(part, answer)
            added(part.after)

    def callback(self) -> Callback | None:
        """Return the account's URL where runs are announced there; None where they are not.

        Also None, after a warning, where no webhook could be verified. Raises UsageError.
        """
        if self._provider.announced_at != "account":
            return None
        return account_callback(
            self._source, self._public_url, warn=self._warn, first=self._first_check
        )

    async def _expect(self, part: Part, answer: Any) -> None:
        """Store what the sender accepted; raises NotDone where that is not all that was sent."""
        runs = require_additions(self._provider).read_added(answer)
        count = _accepted_count(answer)
        if not runs and count is None:
            raise NotDone(addition_outcome.says_nothing(part))
        outcome = addition_outcome.compare(runs, count, part.tasks)
        expect = partial(
            self._store.batches.add_runs,
            *(self._source.name, part.batch_id, outcome.runs),
            unlisted=outcome.unlisted,
            idempotency_key=token_hex(16),
        )
        try:
            await self._keep_trying(expect)
        except StorageError as error:
            raise NotDone(addition_outcome.not_stored(part, outcome, error)) from error
        self._complain(part, outcome)

    def _complain(self, part: Part, outcome: AdditionOutcome) -> None:
        if outcome.unlisted:
            self._warn(addition_outcome.without_ids(part, outcome))
        if outcome.refused:
            raise NotDone(addition_outcome.too_few(part, outcome))

    async def _not_added(self, part: Part, error: FetchError) -> ReceiverError:
        """Return the error for a call that failed, with how to go on."""
        if isinstance(error, Refused | NotReady) and await self._has_ended(part.batch_id):
            return NotDone(addition_outcome.has_ended(part, error, self._source.name))
        return self._failed(
            f"{part.before} of {part.total} tasks were added to {part.batch_id}, then: {error}. "
            f"{_before_repeating(error, part)}: {part.command_to_repeat()}."
        )

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


def _before_repeating(error: FetchError, part: Part) -> str:
    """Return what to do first: tasks whose answer was lost may have been added, and are charged."""
    if may_have_acted(error):
        look = f"Look with `batch status {part.batch_id}` whether the next {len(part.tasks)}"
        return f"{look} were added; if not"
    return "Once that is mended"


def _accepted_count(answer: Any) -> int | None:
    """Return how many tasks the sender says it accepted; None where it gives no number."""
    return whole(answer.get("added")) if isinstance(answer, dict) else None
