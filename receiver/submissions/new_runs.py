"""Creating single runs: the submission is stored first, and a lost call is looked for."""

import asyncio
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone
from receiver.providers.capabilities.require import require_single_runs
from receiver.providers.capabilities.runs import MarksRuns
from receiver.providers.model import Created, NewRun
from receiver.submissions.base import Submissions, command_to_resume
from receiver.submissions.callback_urls import account_callback, usable_secret
from receiver.submissions.lost_calls import LostCalls, Undecided
from receiver.submissions.retries import may_have_acted
from storage import EndpointPlan, NewSubmission, StorageError, StoredTask, Submission

QUESTION_CHECK_SECONDS = 60.0
"""Interval of checks of a run that may ask a person something; it waits for minutes."""


class NewRuns(Submissions):
    """Creates the single runs of one source."""

    async def create(self, new: NewRun) -> str:
        """Create the run so that its first webhook can be verified; returns its id.

        The submission is stored before the call. Raises NotDone that says what exists and what to
        do where a step failed, and UsageError where nothing could be begun.
        """
        with_endpoint = self._provider.announced_at != "account"
        url = None
        if with_endpoint:
            self._reachable()  # a wrong setting is an error before anything is made
        elif callback := account_callback(
            self._source, self._public_url, warn=self._warn, first=self._first_check
        ):
            url = callback.url
        known = await self._begin(new, with_endpoint=with_endpoint)
        if known.endpoint_id is not None:
            url = self._webhook_url(known.endpoint_id)
        known = await self._keep_trying(lambda: self._store.submissions.calling(known, "runs"))
        try:
            made = await self._create(known, new, url)
        except FetchError as error:
            made = Created(await self._recover(known, error), is_found=True)
        except asyncio.CancelledError:
            self._warn(f"The task may have been created. {_ways(known)}")
            raise
        return await self._register(known, made)

    async def resume(self, known: Submission) -> str:
        """Find the run of a create call that may have been made, and store it; returns its id.

        The call is never made again: it may hold what is not stored. Raises NotDone.
        """
        if known.calling is None:
            return await self._not_there(known)
        lost = self._beside(LostCalls)
        try:
            if (found := await lost.run(known)) is None:
                await self._settle(known)
                found = await lost.run(known)
        except Undecided as why:
            raise NotDone(
                f"Whether the task was created is not known: {why}. {_ways(known)}"
            ) from None
        except FetchError as error:
            raise self._failed(
                f"Whether the task was created could not be asked: {error}. Once that is mended: "
                f"{command_to_resume(known)}."
            ) from error
        if found is None:
            return await self._not_there(known)
        return await self._register(known, Created(found, is_found=True))

    async def _begin(self, new: NewRun, *, with_endpoint: bool) -> Submission:
        every = QUESTION_CHECK_SECONDS if new.may_ask else None
        endpoint = EndpointPlan(self._provider.run_kind, every) if with_endpoint else None
        submission = NewSubmission(
            self._source.name, "run", plan={"runner": new.runner, "may_ask": new.may_ask}
        )
        task = StoredTask(None, {}, new.input)  # its body may hold credentials
        return await run_in_threadpool(
            lambda: self._store.submissions.begin(submission, [task], endpoint=endpoint)
        )

    async def _create(self, known: Submission, new: NewRun, url: str | None) -> Created:
        provider = require_single_runs(self._provider)
        if isinstance(provider, MarksRuns):
            new = provider.marked_run(new, known.id)
        request = provider.create_run(new, webhook_url=url)
        return provider.read_created_run(await self._call(request))

    async def _recover(self, known: Submission, error: FetchError) -> str:
        """Return the run of a call whose answer was lost just now; raises NotDone."""
        if not may_have_acted(error):
            with suppress(StorageError):  # what stays, an endpoint with its checks, does no harm
                await run_in_threadpool(self._store.submissions.undo, known)
            raise self._failed(f"The task was not created: {error}.") from error
        with suppress(FetchError, Undecided):
            if (found := await self._beside(LostCalls).run(known)) is not None:
                return found
        raise NotDone(
            f"The answer to the create call was lost ({error}), so the sender may be working on "
            f"the task. {_ways(known)}"
        ) from error

    async def _not_there(self, known: Submission) -> str:
        await run_in_threadpool(self._store.submissions.undo, known)
        raise NotDone("The task was not created, and nothing runs: create it again.")

    async def _register(self, known: Submission, made: Created) -> str:
        """Store the new run with its secret; returns its id, and raises NotDone."""
        secret = None
        if known.endpoint_id is not None:
            first = "a minute" if known.plan["may_ask"] else self._first_check
            secret = usable_secret(
                self._source, made, known.endpoint_id, warn=self._warn, first=first
            )
        (task,) = await run_in_threadpool(self._store.submissions.tasks, known)
        try:
            await self._keep_trying(
                lambda: self._store.runs.expect(
                    self._source.name,
                    made.id,
                    endpoint_id=known.endpoint_id,
                    secret=secret,
                    input=dict(task.input),
                    runner=known.plan["runner"],
                    submission=known,
                )
            )
        except StorageError as error:
            raise NotDone(
                f"The sender made {made.id}, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Do not create it again; once that is mended, have "
                f"its result brought in: {self._adopt_command(made.id)}."
            ) from error
        return made.id

    def _adopt_command(self, run_id: str) -> str:
        kind = self._provider.run_kind
        return f"endpoint add {self._source.name} --kind {kind} --resource {run_id}"


def _ways(known: Submission) -> str:
    """Return how to go on where nobody can tell whether the run exists."""
    resume = command_to_resume(known)
    return (
        f"This finds it once the sender shows it, or has announced its end: {resume}. If you see "
        f"that it is not there: {resume} --give-up, and create it again."
    )
