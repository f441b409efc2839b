"""Batches whose runs are all made in one call, each with a callback of its own (Parallel v0)."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone, ReceiverError
from receiver.providers.capabilities.batches import CallsBackPerRun
from receiver.providers.model import Callback, NewTask, Subject
from receiver.submissions.base import Submissions, command_to_resume, plan_of
from receiver.submissions.retries import may_have_acted
from storage import (
    FetchedRun,
    NewBatchRow,
    StorageError,
    StoredTask,
    Submission,
    SubmittedRun,
)

AT_ONCE = 100
"""Endpoints made in one transaction, so that acks get between two of them."""

Match = tuple[str, StoredTask | None]
"""A run's id and its task, None where it cannot be told."""


class PerRunCallbacks(Submissions):
    """Creates such batches for one source."""

    @property
    def _sender(self) -> CallsBackPerRun:
        assert isinstance(self._provider, CallsBackPerRun)  # noqa: S101  the caller looked
        return self._provider

    async def submit(self, known: Submission, *, repeat: bool = False) -> str:
        """Make the stored task where none is given, an endpoint for each run, then the batch.

        Returns the batch's id. `repeat` makes the batch again although it may exist. Raises NotDone
        that says what exists and how to go on.
        """
        if known.batch_id is None:
            if known.calling == "runs":
                known = await self._found_again(known, repeat=repeat)
            if known.task_id is None:
                known = await self._stored_task(known)
        if known.batch_id is None:
            return await self._submit(known)
        return await self._bring_in(known)

    # --- the calls -----------------------------------------------------------------------------

    async def _stored_task(self, known: Submission) -> Submission:
        """Make the stored task; it costs nothing, so that a lost call is simply made again."""
        store, is_first = self._store.submissions, known.calling is None
        tasks = [_new(task) for task in await run_in_threadpool(store.tasks, known)]
        known = await self._keep_trying(partial(store.calling, known, "task"))
        request = self._sender.create_stored_task(plan_of(known), tasks)
        try:
            task_id = self._sender.read_stored_task(await self._call(request))
        except FetchError as error:
            sentence = f"The stored task was not created, and nothing was run: {error}."
            raise await self._undone(known, error, sentence, is_first=is_first) from error
        return await self._keep_trying(partial(store.stored_task, known, task_id))

    async def _submit(self, known: Submission) -> str:
        """Make the batch, and store it with its runs; returns its id."""
        tasks = await self._with_endpoints(known)
        request = self._sender.submit_batch(
            str(known.task_id),
            [_new(task) for task in tasks],
            defaults=known.defaults or {},
            callbacks=[await self._callback(task) for task in tasks],
        )
        known = await self._keep_trying(partial(self._store.submissions.calling, known, "runs"))
        try:
            answer = await self._call(request)
            batch_id = self._sender.read_submitted(answer)
        except FetchError as error:
            made = "" if known.plan.get("task_id") else f" Its stored task is {known.task_id}."
            if may_have_acted(error):
                sentence = f"The answer to the create call was lost ({error})"
                raise NotDone(_lost(known, sentence)) from error
            sentence = f"The batch was not created: {error}.{made}"
            raise await self._undone(known, error, sentence, is_first=True) from error
        runs = self._sender.read_added(answer)
        return await self._store_batch(known, batch_id, self._match(batch_id, runs, tasks))

    async def _undone(
        self, known: Submission, error: FetchError, sentence: str, *, is_first: bool
    ) -> ReceiverError:
        """Return the error; forget the submission unless something may exist."""
        if is_first and not may_have_acted(error):
            with suppress(StorageError):  # endpoints that stay do no harm
                await run_in_threadpool(self._store.submissions.undo, known)
            return self._failed(sentence)
        return self._failed(f"{sentence} Once that is mended: {command_to_resume(known)}.")

    async def _with_endpoints(self, known: Submission) -> list[StoredTask]:
        """Return the tasks, each with an endpoint of its own."""
        store = self._store.submissions
        tasks = await run_in_threadpool(store.tasks, known)
        start = next((i for i, task in enumerate(tasks) if task.endpoint_id is None), len(tasks))
        for first in range(start, len(tasks), AT_ONCE):
            texts = [secrets.token_hex(32) for _ in tasks[first : first + AT_ONCE]]
            await self._keep_trying(partial(store.add_endpoints, known, first, texts))
        return await run_in_threadpool(store.tasks, known)

    async def _callback(self, task: StoredTask) -> Callback:
        view = await run_in_threadpool(self._store.endpoints.find, str(task.endpoint_id))
        assert view is not None  # noqa: S101  it was made for the task
        return Callback(self._webhook_url(view.id), view.secrets[0].text)

    # --- what came of a call -------------------------------------------------------------------

    async def _found_again(self, known: Submission, *, repeat: bool) -> Submission:
        """Return the submission with the batch of a lost call, once one of its runs called back.

        The sender lists no batches. With `repeat`, returns it without one. Raises NotDone.
        """
        store = self._store.submissions
        batch_id = await run_in_threadpool(store.batch_called_back, known)
        if batch_id is not None:
            return await self._keep_trying(partial(store.created, known, batch_id, _row(known)))
        if not repeat:
            raise NotDone(_lost(known, "The answer to the create call was lost"))
        await self._keep_trying(partial(store.forget_endpoints, known))
        return await self._keep_trying(partial(store.not_called, known))

    async def _bring_in(self, known: Submission) -> str:
        """Store the runs of a batch whose answer is lost; their inputs come with their results."""
        batch_id = str(known.batch_id)
        subject = Subject("batch", batch_id, known.task_id)
        try:
            answer = await self._calls.call(self._sender.batch(subject))
            batch = self._sender.read_batch(answer, subject)
        except FetchError as error:
            raise self._failed(
                f"The runs of {batch_id} could not be asked for: {error}. Once that is mended: "
                f"{command_to_resume(known)}."
            ) from error
        await run_in_threadpool(self._store.batches.note, self._source.name, batch)
        return await self._store_runs(known, [(run.run_id, None) for run in batch.runs])

    def _match(
        self, batch_id: str, runs: Sequence[FetchedRun], tasks: Sequence[StoredTask]
    ) -> list[Match]:
        """Match the runs, which come in the order of the request, with the tasks."""
        if len(runs) == len(tasks):
            return [(run.run_id, task) for run, task in zip(runs, tasks, strict=True)]
        self._warn(
            f"The sender named {len(runs)} runs for {len(tasks)} tasks of {batch_id}: which is "
            "whose cannot be told, so inputs are known only where the sender gives them back."
        )
        return [(run.run_id, None) for run in runs]

    async def _store_batch(self, known: Submission, batch_id: str, matched: Sequence[Match]) -> str:
        """Store the batch and its runs; raises NotDone."""
        created = partial(self._store.submissions.created, known, batch_id, _row(known))
        try:
            known = await self._keep_trying(created)
            return await self._store_runs(known, matched)
        except StorageError as error:
            name = self._source.name
            raise NotDone(
                f"The sender made {batch_id} of task {known.task_id}, but it could not be stored "
                f"here: {str(error).rstrip('.')}. Do not create it again; once that is mended: "
                f"endpoint add {name} --kind batch --resource {batch_id} --task {known.task_id}, "
                f"then {command_to_resume(known)} --give-up."
            ) from error

    async def _store_runs(self, known: Submission, matched: Sequence[Match]) -> str:
        """Store the runs; those that the sender has made without naming them are expected."""
        runs = [
            SubmittedRun(
                run_id,
                known.task_id,
                dict(task.input) if task else None,
                task.endpoint_id if task else None,
            )
            for run_id, task in matched
        ]
        await self._keep_trying(
            lambda: self._store.submissions.added(
                known, runs, done=known.total, accepted=known.total
            )
        )
        return str(known.batch_id)


def _new(task: StoredTask) -> NewTask:
    return NewTask(task.task_id, task.body, task.input)


def _row(known: Submission) -> NewBatchRow:
    plan = plan_of(known)
    return NewBatchRow(
        name=plan.name, runner=plan.runner, task_id=known.task_id, defaults=known.defaults
    )


def _lost(known: Submission, begin: str) -> str:
    """Return the sentence for a batch that may exist, which only its callbacks can tell."""
    resume = command_to_resume(known)
    return (
        f"{begin}. The sender lists no batches: if it made this one, its callbacks come in and "
        f"their results are stored (see `event list`), and then this finds it: {resume}. If "
        f"nothing has come when its runs must have ended: {resume} --repeat (the runs are charged "
        f"twice if they were made); to leave it: {resume} --give-up."
    )
