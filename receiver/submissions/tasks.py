"""Single runs: creating them so that no result is missed, looking at them, and steering them."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Missing, NotDone, NotReady, ReceiverError, UsageError
from receiver.providers.model import Created, NewRun, Request, Subject
from receiver.sender_api.calls import Calls
from receiver.sources import webhook_url
from receiver.submissions.callback_urls import account_callback, reachable, usable_secret
from receiver.submissions.retries import (
    STORE_SECONDS,
    failed,
    keep_trying,
    may_have_acted,
    patiently,
)
from receiver.telemetry.logs import get_logger
from storage import FetchedRun, StorageError, Store

log = get_logger("tasks")

ASKED_SECONDS = 60.0
"""How often a run that may ask a person something is looked at: its question waits for minutes."""


class Tasks:
    """The single runs of one source. `public_url` is where the sender reaches us.

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

    # --- creating ------------------------------------------------------------------------------

    async def create(self, new: NewRun) -> str:
        """Make the run so that its webhook can be verified from the first; returns its id.

        Raises NotDone that says what exists and what to do where a step failed, and UsageError
        where nothing could be begun.
        """
        if self._provider.announced_at == "account":
            return await self._create_for_account(new)
        return await self._create_with_endpoint(new)

    async def _create_with_endpoint(self, new: NewRun) -> str:
        """Endpoint first, then the run, then its secret, which nobody shows again."""
        public_url = reachable(self._public_url)
        every = ASKED_SECONDS if new.may_ask else None
        endpoint_id = await run_in_threadpool(
            lambda: self._store.endpoints.add(
                self._source.name, self._provider.run_kind, check_every=every
            )
        )
        try:
            made = await self._create(new, webhook_url(public_url, self._source.name, endpoint_id))
        except FetchError as error:
            await self._leave(endpoint_id)
            raise self._not_created(error) from error
        first = "ten minutes" if every is None else "a minute"
        secret = usable_secret(self._source, made, endpoint_id, self._warn, first=first)
        await self._register(new, made, endpoint_id, secret)
        return made.id

    async def _create_for_account(self, new: NewRun) -> str:
        """The account's own URL and secret serve all runs: only the run is to be known."""
        callback = account_callback(self._source, self._public_url, self._warn)
        try:
            made = await self._create(new, None if callback is None else callback.url)
        except FetchError as error:
            raise self._not_created(error) from error
        await self._register(new, made, None, None)
        return made.id

    async def _create(self, new: NewRun, url: str | None) -> Created:
        request = self._provider.create_run(new, webhook_url=url)
        return self._provider.read_created_run(await patiently(self._calls, request))

    async def _register(
        self, new: NewRun, made: Created, endpoint_id: str | None, secret: str | None
    ) -> None:
        """Keep the new run with its secret, which nobody shows again; raises NotDone."""
        try:
            await keep_trying(
                lambda: self._store.runs.expect(
                    self._source.name,
                    made.id,
                    endpoint_id=endpoint_id,
                    secret=secret,
                    input=dict(new.input),
                    runner=new.runner,
                ),
                seconds=self._store_seconds,
            )
        except StorageError as error:
            raise NotDone(
                f"The sender made {made.id}, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Do not create it again; once that is mended, have "
                f"its result brought in: {self._adopting(made.id)}."
            ) from error

    async def _leave(self, endpoint_id: str) -> None:
        """Nobody can ever verify anything at an endpoint whose secret was not told."""
        with suppress(StorageError):  # one that stays, and its checks, harm nobody
            await run_in_threadpool(self._store.endpoints.close, endpoint_id)

    def _not_created(self, error: FetchError) -> ReceiverError:
        if not may_have_acted(error):
            return failed(self._calls, f"The task was not created: {error}.")
        return NotDone(
            f"The answer to the create call was lost ({error}), so the sender may be working on "
            "the task. Look there for it before you create it again; if it is there, have its "
            f"result brought in: {self._adopting('ID')}."
        )

    def _adopting(self, run_id: str) -> str:
        kind = self._provider.run_kind
        return f"endpoint add {self._source.name} --kind {kind} --resource {run_id}"

    # --- looking -------------------------------------------------------------------------------

    async def look(self, run_id: str) -> FetchedRun:
        """Ask the sender for the run, and keep what it tells; raises FetchError."""
        began = self._store.now()
        run = await self._ask(await run_in_threadpool(self._subject, run_id))
        await run_in_threadpool(
            lambda: self._store.runs.note(self._source.name, run, fetched_at=began)
        )
        return run

    def _subject(self, run_id: str) -> Subject:
        """A run as its endpoint has it: a contents job is asked for elsewhere than a task."""
        kind, task_id = self._provider.run_kind, None
        endpoint = self._store.endpoints.find_by_resource(self._source.name, run_id)
        if endpoint is not None and endpoint.kind != "batch":
            kind, task_id = endpoint.kind, endpoint.task_id
        if task_id is None and self._provider.below_tasks:
            known = self._store.runs.find(self._source.name, run_id)
            task_id = known.task_id if known is not None else None
        return Subject(kind, run_id, task_id)

    async def _ask(self, subject: Subject) -> FetchedRun:
        """By the first of the provider's calls that tells of it; one may only tell of results."""
        *others, last = self._provider.run(subject)
        for request in others:
            with suppress(Missing, NotReady):
                return self._provider.read_run(await self._calls.call(request), subject)
        return self._provider.read_run(await self._calls.call(last), subject)

    async def show(self, run_id: str) -> FetchedRun:
        """The same for somebody who waits for it; raises NotDone."""
        try:
            return await self.look(run_id)
        except FetchError as error:
            raise failed(
                self._calls,
                f"The sender did not tell of {run_id}: {error}. What is stored of it: "
                f"task show {run_id} --offline.",
            ) from error

    # --- steering ------------------------------------------------------------------------------

    async def update(self, run_id: str, instruction: str) -> None:
        """Give the run one more instruction; raises NotDone with the sender's answer."""
        if not instruction.strip():
            raise UsageError(f"{run_id} was not updated: the instruction is empty.")
        subject = Subject(self._provider.run_kind, run_id)
        request = self._provider.update_run(subject, instruction)
        await self._steer(f"{run_id} was not updated", request)

    async def cancel(self, run_id: str) -> None:
        """Ask the sender to cancel the run; raises NotDone with its answer where it refuses."""
        request = self._provider.cancel_run(Subject(self._provider.run_kind, run_id))
        await self._steer(f"{run_id} was not cancelled", request)
        await self._look_if_possible(run_id)

    async def respond(self, run_id: str, response: Any, *, interaction: str | None = None) -> str:
        """Answer what the run asks, which is asked for where it is not named; returns its id.

        Raises NotDone where it asks nothing, or where the sender refuses the answer.
        """
        sentence = f"{run_id} was not answered"
        if interaction is None:
            waits_for = (await self.show(run_id)).waits_for
            if waits_for is None:
                raise NotDone(f"{sentence}: it asks nothing now.")
            interaction = str(waits_for.get("interaction_id") or "")
            if not interaction:
                raise NotDone(f"{sentence}: the sender names no question; give --interaction.")
        subject = Subject(self._provider.run_kind, run_id)
        await self._steer(sentence, self._provider.respond(subject, interaction, response))
        await self._look_if_possible(run_id)
        return interaction

    async def _steer(self, sentence: str, request: Request | None) -> None:
        if request is None:
            name = self._source.name
            raise UsageError(f"{sentence}: the API of source {name} has no call for it.")
        try:
            await patiently(self._calls, request)
        except FetchError as error:
            raise failed(self._calls, f"{sentence}: {error}.") from error

    async def _look_if_possible(self, run_id: str) -> None:
        """What was done is done, whether we see it or not."""
        with suppress(FetchError, StorageError):
            await self.look(run_id)
