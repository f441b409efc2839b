"""Creating single runs so that no result is missed, looking at them, and steering them."""

from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Missing, NotDone, NotReady, ReceiverError, UsageError
from receiver.providers.capabilities.require import require_single_runs
from receiver.providers.capabilities.runs import AsksQuestions, CancelsRuns, UpdatesRuns
from receiver.providers.model import Created, NewRun, Request, Subject
from receiver.sender_api.subjects import ask_first_that_knows, subject_of
from receiver.submissions.base import Submissions
from receiver.submissions.callback_urls import account_callback, usable_secret
from receiver.submissions.retries import may_have_acted
from storage import FetchedRun, FoundBy, StorageError

QUESTION_CHECK_SECONDS = 60.0
"""Interval of checks of a run that may ask a person something; it waits for minutes."""


class TaskSubmissions(Submissions):
    """Use cases on the single runs of one source."""

    # --- creating ------------------------------------------------------------------------------

    async def create(self, new: NewRun) -> str:
        """Create the run so that its first webhook can be verified; returns its id.

        Raises NotDone that says what exists and what to do where a step failed, and UsageError
        where nothing could be begun.
        """
        if self._provider.announced_at == "account":
            return await self._create_for_account(new)
        return await self._create_with_endpoint(new)

    async def _create_with_endpoint(self, new: NewRun) -> str:
        """Make the endpoint, then the run, then store its secret, which nobody shows again."""
        self._reachable()  # a wrong setting is an error before anything is made
        every = QUESTION_CHECK_SECONDS if new.may_ask else None
        endpoint_id = await run_in_threadpool(
            lambda: self._store.endpoints.add(
                self._source.name, self._provider.run_kind, check_every=every
            )
        )
        try:
            made = await self._create(new, self._webhook_url(endpoint_id))
        except FetchError as error:
            await self._close(endpoint_id)
            raise self._not_created(error) from error
        first = self._first_check if every is None else "a minute"
        secret = usable_secret(self._source, made, endpoint_id, warn=self._warn, first=first)
        await self._register(new, made, endpoint_id=endpoint_id, secret=secret)
        return made.id

    async def _create_for_account(self, new: NewRun) -> str:
        """Make a run that is announced at the account's own URL, with the account's secret."""
        callback = account_callback(
            self._source, self._public_url, warn=self._warn, first=self._first_check
        )
        try:
            made = await self._create(new, None if callback is None else callback.url)
        except FetchError as error:
            raise self._not_created(error) from error
        await self._register(new, made, endpoint_id=None, secret=None)
        return made.id

    async def _create(self, new: NewRun, url: str | None) -> Created:
        provider = require_single_runs(self._provider)
        request = provider.create_run(new, webhook_url=url)
        return provider.read_created_run(await self._call(request))

    async def _register(
        self, new: NewRun, made: Created, *, endpoint_id: str | None, secret: str | None
    ) -> None:
        """Store the new run with its secret; raises NotDone."""
        try:
            await self._keep_trying(
                lambda: self._store.runs.expect(
                    self._source.name,
                    made.id,
                    endpoint_id=endpoint_id,
                    secret=secret,
                    input=dict(new.input),
                    runner=new.runner,
                )
            )
        except StorageError as error:
            raise NotDone(
                f"The sender made {made.id}, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Do not create it again; once that is mended, have "
                f"its result brought in: {self._adopt_command(made.id)}."
            ) from error

    async def _close(self, endpoint_id: str) -> None:
        """Close an endpoint whose secret will never be known."""
        with suppress(StorageError):  # one that stays open, with its checks, does no harm
            await run_in_threadpool(self._store.endpoints.close, endpoint_id)

    def _not_created(self, error: FetchError) -> ReceiverError:
        if not may_have_acted(error):
            return self._failed(f"The task was not created: {error}.")
        return NotDone(
            f"The answer to the create call was lost ({error}), so the sender may be working on "
            "the task. Look there for it before you create it again; if it is there, have its "
            f"result brought in: {self._adopt_command('ID')}."
        )

    def _adopt_command(self, run_id: str) -> str:
        kind = self._provider.run_kind
        return f"endpoint add {self._source.name} --kind {kind} --resource {run_id}"

    # --- looking -------------------------------------------------------------------------------

    async def look(self, run_id: str, *, by: FoundBy = "hand") -> FetchedRun:
        """Fetch and store the run as it is now; raises FetchError."""
        began = self._store.now()
        subject = await run_in_threadpool(self._subject, run_id)
        # a call that only knows results may say "not yet"; the next one tells the status
        run = await ask_first_that_knows(self._calls, subject, passing_over=(Missing, NotReady))
        await run_in_threadpool(
            lambda: self._store.runs.note(self._source.name, run, fetched_at=began, found_by=by)
        )
        return run

    def _subject(self, run_id: str) -> Subject:
        """Return the run with its endpoint's kind: a contents job has other calls than a task."""
        endpoint = self._store.endpoints.find_by_resource(self._source.name, run_id)
        if endpoint is not None and endpoint.kind == "batch":
            endpoint = None
        kind = self._provider.run_kind if endpoint is None else endpoint.kind
        known = self._store.runs.find(self._source.name, run_id)
        return subject_of(self._provider, kind, run_id, endpoint=endpoint, known=known)

    async def show(self, run_id: str) -> FetchedRun:
        """Fetch and store the run as `look` does; raises NotDone, with a sentence for the user."""
        try:
            return await self.look(run_id)
        except FetchError as error:
            raise self._failed(
                f"The sender did not tell of {run_id}: {error}. What is stored of it: "
                f"task show {run_id} --offline."
            ) from error

    # --- steering ------------------------------------------------------------------------------

    async def update(self, run_id: str, instruction: str) -> None:
        """Send the run one more instruction; raises NotDone with the sender's answer."""
        if not instruction.strip():
            raise UsageError(f"{run_id} was not updated: the instruction is empty.")
        provider, subject = self._provider, Subject(self._provider.run_kind, run_id)
        request = None
        if isinstance(provider, UpdatesRuns):
            request = provider.update_run(subject, instruction)
        await self._steer(f"{run_id} was not updated", request)

    async def cancel(self, run_id: str) -> None:
        """Cancel the run; raises NotDone with the sender's answer where it refuses."""
        provider, subject = self._provider, Subject(self._provider.run_kind, run_id)
        request = provider.cancel_run(subject) if isinstance(provider, CancelsRuns) else None
        await self._steer(f"{run_id} was not cancelled", request)
        await self._look_if_possible(run_id)

    async def respond(self, run_id: str, response: Any, *, interaction: str | None = None) -> str:
        """Answer the run's question; returns the question's id, fetched where none is given.

        Raises NotDone where the run has no question, or where the sender refuses the answer.
        """
        sentence = f"{run_id} was not answered"
        if interaction is None:
            waits_for = (await self.show(run_id)).waits_for
            if waits_for is None:
                raise NotDone(f"{sentence}: it asks nothing now.")
            interaction = str(waits_for.get("interaction_id") or "")
            if not interaction:
                raise NotDone(f"{sentence}: the sender names no question; give --interaction.")
        provider, subject = self._provider, Subject(self._provider.run_kind, run_id)
        request = None
        if isinstance(provider, AsksQuestions):
            request = provider.respond(subject, interaction, response)
        await self._steer(sentence, request)
        await self._look_if_possible(run_id)
        return interaction

    async def _steer(self, sentence: str, request: Request | None) -> None:
        if request is None:
            name = self._source.name
            raise UsageError(f"{sentence}: the API of source {name} has no call for it.")
        try:
            await self._call(request)
        except FetchError as error:
            raise self._failed(f"{sentence}: {error}.") from error

    async def _look_if_possible(self, run_id: str) -> None:
        """Fetch and store the run; an error is ignored, since what was asked for is done."""
        with suppress(FetchError, StorageError):
            await self.look(run_id)
