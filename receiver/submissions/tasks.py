"""Creating single runs so that no result is missed, looking at them, and steering them."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Missing, NotDone, NotReady, UsageError
from receiver.providers.capabilities.runs import AsksQuestions, CancelsRuns, UpdatesRuns
from receiver.providers.model import NewRun, Request, Subject
from receiver.sender_api.subjects import ask_first_that_knows, subject_of
from receiver.submissions.base import Submissions
from receiver.submissions.new_runs import NewRuns
from storage import FetchedRun, FoundBy, StorageError, Submission


class TaskSubmissions(Submissions):
    """Use cases on the single runs of one source."""

    # --- creating ------------------------------------------------------------------------------

    async def create(self, new: NewRun) -> str:
        """Create a run and return its id; see `NewRuns.create`."""
        return await self._beside(NewRuns).create(new)

    async def resume(self, known: Submission) -> str:
        """Find the run of an interrupted `create` and return its id; see `NewRuns.resume`."""
        return await self._beside(NewRuns).resume(known)

    async def give_up(self, known: Submission) -> None:
        """Forget an interrupted `create`; what may run at the sender is left alone."""
        await run_in_threadpool(self._store.submissions.end, known)

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
        """Fetch and store the run; an error is only a warning, for what was asked for is done."""
        try:
            await self.look(run_id)
        except (FetchError, StorageError) as error:
            reason = str(error).rstrip(".")
            self._warn(
                f"{run_id} could not be looked at ({reason}): task show {run_id} tries again."
            )
