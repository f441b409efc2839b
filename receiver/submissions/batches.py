"""Creating batches so that no result is missed, and adding to them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import (
    FetchError,
    NotDone,
    NotReady,
    ReceiverError,
    Refused,
    UsageError,
)
from receiver.json_values import whole
from receiver.providers.model import Callback, Created, NewTask, Plan, Subject
from receiver.sender_api.calls import Calls
from receiver.sources import webhook_url
from receiver.submissions import addition_outcome
from receiver.submissions.addition_outcome import Accepted, Part
from receiver.submissions.callback_urls import account_callback, reachable, usable_secret
from receiver.submissions.per_run_callbacks import Submitting
from receiver.submissions.retries import (
    STORE_SECONDS,
    failed,
    keep_trying,
    may_have_acted,
    patiently,
)
from receiver.telemetry.logs import get_logger
from storage import CannotStore, Ledger, StorageError, Store

log = get_logger("batches")


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a batch is made of. `skipped` tasks of the user's file were left out before these."""

    plan: Plan
    tasks: Sequence[NewTask]
    skipped: int = 0


class Batches:
    """The batches of one source. `public_url` is where the sender reaches us.

    `warn` is told, in one sentence each, what the user should know although the work goes on.
    """

    def __init__(
        self,
        store: Store,
        calls: Calls,
        public_url: str | None,
        *,
        warn: Callable[[str], None] = log.warning,
        store_seconds: float = STORE_SECONDS,
    ) -> None:
        self._store = store
        self._calls = calls
        self._source = calls.source
        self._provider = calls.source.provider
        self._public_url = public_url
        self._warn = warn
        self._store_seconds = store_seconds

    async def create(
        self, new: NewBatch, *, created: Callable[[str], None], added: Callable[[int], None]
    ) -> str:
        """Make the batch so that its webhooks can be verified from the first, and add the tasks.

        `created` is told the batch's id, `added` how many tasks the sender has accepted so far.
        Raises NotDone that says what exists and what to do where a step failed, and UsageError
        where nothing could be begun.
        """
        try:
            self._provider.check(new.plan, new.tasks)
        except ValueError as error:
            raise UsageError(f"The batch was not created: {error}.") from None
        match self._provider.announced_at:
            case "run":
                submitting = Submitting(
                    self._store, self._calls, self._reachable(), self._warn, self._store_seconds
                )
                batch_id = await submitting.submit(new.plan, new.tasks)
                created(batch_id)
                added(len(new.tasks))
                return batch_id
            case "account":
                batch_id = await self._create_for_account(new.plan, new.tasks)
            case "batch":
                batch_id = await self._create_with_endpoint(new.plan, new.tasks)
        created(batch_id)
        await self.add(batch_id, new.tasks, added=added, skipped=new.skipped)
        return batch_id

    def _reachable(self) -> str:
        return reachable(self._public_url)

    async def _create_with_endpoint(self, plan: Plan, tasks: Sequence[NewTask]) -> str:
        """Endpoint first, then the batch, then its secret, which nobody shows again."""
        public_url = self._reachable()
        endpoint_id = await run_in_threadpool(self._store.endpoints.add, self._source.name, "batch")
        url = webhook_url(public_url, self._source.name, endpoint_id)
        try:
            batch = await self._create(plan, tasks, url)
        except FetchError as error:
            raise await self._not_created(endpoint_id, error) from error
        await self._register(plan, batch, endpoint_id)
        return batch.id

    async def _create_for_account(self, plan: Plan, tasks: Sequence[NewTask]) -> str:
        """The account's own URL and secret serve all batches: only the batch is to be known."""
        self._callback()  # what is wrong with the settings is said before anything is made
        try:
            batch = await self._create(plan, tasks, None)
        except FetchError as error:
            raise failed(
                self._calls, f"The batch was not created, and nothing was run: {error}."
            ) from error
        try:
            await self._keep_trying(
                lambda: self._store.batches.register(
                    self._source.name,
                    batch.id,
                    endpoint_id=None,
                    name=plan.name,
                    runner=plan.runner,
                    defaults=self._provider.defaults(plan, tasks),
                )
            )
        except StorageError as error:
            raise NotDone(
                f"The sender made {batch.id}, still without runs, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Once that is mended, create the batch again."
            ) from error
        return batch.id

    def _callback(self) -> Callback | None:
        """Where runs are announced at the account's own URL; None where nothing could be proven."""
        if self._provider.announced_at != "account":
            return None
        return account_callback(self._source, self._public_url, self._warn)

    async def add(
        self,
        batch_id: str,
        tasks: Sequence[NewTask],
        *,
        added: Callable[[int], None],
        skipped: int = 0,
    ) -> None:
        """Add tasks in calls of as many as the sender takes; raises NotDone where it stops.

        `skipped` is how many tasks of the user's file were left out before these.
        """
        if self._provider.announced_at == "run":
            raise UsageError(
                f"Nothing was added: all runs of a batch of source {self._source.name} are made "
                "together with it. Create another one with `batch create`."
            )
        defaults = await run_in_threadpool(
            self._store.batches.defaults_of, self._source.name, batch_id
        )
        callback = self._callback()
        size = self._provider.tasks_per_call
        for start in range(0, len(tasks), size):
            part = Part(batch_id, tasks[start : start + size], start, len(tasks), skipped)
            request = self._provider.add_tasks(
                Subject("batch", batch_id),
                part.tasks,
                defaults=defaults,
                callbacks=[callback] * len(part.tasks),
            )
            try:
                data = await patiently(self._calls, request)
            except FetchError as error:
                raise await self._not_added(part, error) from error
            await self._expect(part, data)
            added(part.after)

    async def _expect(self, part: Part, data: Any) -> None:
        """Store what the sender accepted; raises NotDone where that is not all that was sent."""
        runs, told = self._provider.read_added(data), _told(data)
        if not runs and told is None:
            raise NotDone(addition_outcome.says_nothing(part))
        answer = addition_outcome.compare(runs, told, part.tasks)
        expect = partial(
            self._store.batches.add_runs,
            *(self._source.name, part.batch_id, answer.runs),
            unlisted=answer.unlisted,
            idempotency_key=token_hex(16),
        )
        try:
            await self._keep_trying(expect)
        except StorageError as error:
            raise NotDone(addition_outcome.not_stored(part, answer, error)) from error
        self._complain(part, answer)

    def _complain(self, part: Part, answer: Accepted) -> None:
        if answer.unlisted:
            self._warn(addition_outcome.without_ids(part, answer))
        if answer.refused:
            raise NotDone(addition_outcome.too_few(part, answer))

    async def cancel(self, batch_id: str) -> None:
        """Ask the sender to cancel; raises NotDone with its answer where it refuses."""
        request = self._provider.cancel_batch(await self._subject(batch_id))
        if request is None:
            raise UsageError(
                f"{batch_id} was not cancelled: the API of source {self._source.name} has no call "
                "for it."
            )
        try:
            await patiently(self._calls, request)
        except FetchError as error:
            raise failed(self._calls, f"{batch_id} was not cancelled: {error}.") from error
        with suppress(FetchError, CannotStore):  # it is cancelled, whether we see it or not
            await self.look(batch_id)
        await self._check_soon(batch_id)

    async def status(self, batch_id: str) -> None:
        """Ask for the status, and have what has ended so far brought in; raises NotDone."""
        try:
            await self.look(batch_id)
        except FetchError as error:
            raise failed(self._calls, f"The sender did not tell of {batch_id}: {error}.") from error
        await self._check_soon(batch_id)

    async def look(self, batch_id: str) -> Ledger:
        """Ask the sender for the batch's status and keep it; raises FetchError."""
        subject = await self._subject(batch_id)
        data = await self._calls.call(self._provider.batch(subject))
        batch = self._provider.read_batch(data, subject)
        return await run_in_threadpool(self._store.batches.note, self._source.name, batch)

    async def _subject(self, batch_id: str) -> Subject:
        ledger = await run_in_threadpool(
            lambda: self._store.batches.ledger(batch_id, source=self._source.name)
        )
        return Subject("batch", batch_id, ledger.task_id)

    async def _create(self, plan: Plan, tasks: Sequence[NewTask], url: str | None) -> Created:
        request = self._provider.create_batch(plan, tasks, webhook_url=url)
        assert request is not None  # noqa: S101  only runs that call back need no call here
        return self._provider.read_created(await patiently(self._calls, request))

    async def _register(self, plan: Plan, batch: Created, endpoint_id: str) -> None:
        """Keep the new batch with its secret, which nobody shows again; raises NotDone."""
        secret = usable_secret(self._source, batch, endpoint_id, self._warn, first="ten minutes")
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
            raise NotDone(_not_registered(batch.id, endpoint_id, error)) from error

    async def _not_created(self, endpoint_id: str, error: Exception) -> ReceiverError:
        """Leave nothing behind where the sender refused; keep looking where we cannot know."""
        if may_have_acted(error):
            return NotDone(
                f"The answer to the create call was lost ({error}). If the sender made the batch, "
                f"its results are found without a webhook: see endpoint {endpoint_id} in "
                "`endpoint list`, and `batch list` after ten minutes. Create it again only if "
                "nothing shows there."
            )
        with suppress(StorageError):  # an endpoint that stays, and its checks, harm nobody
            await run_in_threadpool(self._store.endpoints.close, endpoint_id)
            await run_in_threadpool(self._store.jobs.end_checks, endpoint_id)
        return failed(self._calls, f"The batch was not created: {error}.")

    async def _not_added(self, part: Part, error: FetchError) -> ReceiverError:
        """What to do where a call that adds tasks failed."""
        if isinstance(error, Refused | NotReady) and await self._has_ended(part.batch_id):
            return NotDone(addition_outcome.has_ended(part, error, self._source.name))
        return failed(
            self._calls,
            f"{part.before} of {part.total} tasks were added to {part.batch_id}, then: {error}. "
            f"{_before_going_on(error, part)}: {part.again()}.",
        )

    async def _has_ended(self, batch_id: str) -> bool:
        if self._provider.grows:
            return False
        try:
            subject = Subject("batch", batch_id)
            data = await self._calls.call(self._provider.batch(subject))
            return self._provider.read_batch(data, subject).is_terminal
        except FetchError:
            return False

    async def _check_soon(self, batch_id: str) -> None:
        """Have what is there brought in now; at its next turn where we cannot say so."""
        with suppress(CannotStore):
            ledger = await run_in_threadpool(
                lambda: self._store.batches.ledger(batch_id, source=self._source.name)
            )
            if ledger.state == "open":
                await run_in_threadpool(self._store.batches.check, self._source.name, batch_id)

    async def _keep_trying(self, write: Callable[[], Any]) -> None:
        await keep_trying(write, seconds=self._store_seconds)


def _before_going_on(error: FetchError, part: Part) -> str:
    """An answer that was lost may be that of an addition which was made, and is charged."""
    if may_have_acted(error):
        look = f"Look with `batch status {part.batch_id}` whether the next {len(part.tasks)}"
        return f"{look} were added; if not"
    return "Once that is mended"


def _not_registered(batch_id: str, endpoint_id: str, error: Exception) -> str:
    """The secret itself is not shown: it would stay in a terminal's memory and in logs."""
    return (
        f"The sender made {batch_id}, still without tasks, but it could not be stored here: "
        f"{str(error).rstrip('.')}. Its signing secret is lost with that. Once that is mended, "
        f"create the batch again; or keep {batch_id}, whose results are found without webhooks: "
        f"its endpoint finds it by our URL (`batch list` shows it after ten minutes), then "
        f"`batch add {batch_id} --tasks FILE`. If the sender shows you its secret: "
        f"endpoint secret {endpoint_id} --resource {batch_id}."
    )


def _told(data: Any) -> int | None:
    """How many tasks were accepted, in the sender's words; None where it does not say."""
    return whole(data.get("added")) if isinstance(data, dict) else None
