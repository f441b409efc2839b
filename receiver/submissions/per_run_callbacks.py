"""Batches whose runs are all made in one call, each with a callback of its own (Parallel v0)."""

import secrets
from collections.abc import Sequence
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone, ReceiverError
from receiver.providers.capabilities.batches import CallsBackPerRun
from receiver.providers.model import Callback, NewTask, Plan
from receiver.submissions.base import Submissions
from receiver.submissions.retries import may_have_acted
from storage import FetchedRun, StorageError, SubmittedRun

AT_ONCE = 100
"""Endpoints made in one transaction, so that acks get between two of them."""


class PerRunCallbacks(Submissions):
    """Creates such batches for one source."""

    @property
    def _sender(self) -> CallsBackPerRun:
        assert isinstance(self._provider, CallsBackPerRun)  # noqa: S101  the caller looked
        return self._provider

    async def submit(self, plan: Plan, tasks: Sequence[NewTask]) -> str:
        """Make the stored task where none is given, an endpoint for each run, then the batch.

        Returns the batch's id. Raises NotDone that says what exists and what to do, and UsageError
        where nothing could be begun.
        """
        self._reachable()  # a wrong setting is an error before anything is made
        task_id = await self._stored_task(plan, tasks)
        callbacks = await self._callbacks(tasks, task_id)
        request = self._sender.submit_batch(
            task_id,
            tasks,
            defaults=self._sender.defaults(plan, tasks) or {},
            callbacks=list(callbacks.values()),
        )
        try:
            answer = await self._call(request)
            batch_id = self._sender.read_submitted(answer)
        except FetchError as error:
            made = "" if plan.task_id else f" Its stored task is there: --task {task_id}."
            raise await self._not_created(list(callbacks), error, made) from error
        runs = self._sender.read_added(answer)
        try:
            await self._register_batch(plan, batch_id, task_id=task_id, tasks=tasks)
            matched = self._match(batch_id, runs, tasks, endpoint_ids=list(callbacks))
            await self._expect(batch_id, task_id, matched, unlisted=len(tasks) - len(runs))
        except StorageError as error:
            name = self._source.name
            raise NotDone(
                f"The sender made {batch_id} of task {task_id}, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Do not create it again; once that is mended: "
                f"endpoint add {name} --kind batch --resource {batch_id} --task {task_id}."
            ) from error
        return batch_id

    async def _stored_task(self, plan: Plan, tasks: Sequence[NewTask]) -> str:
        if plan.task_id is not None:
            return plan.task_id
        request = self._sender.create_stored_task(plan, tasks)
        try:
            return self._sender.read_stored_task(await self._call(request))
        except FetchError as error:
            sentence = f"The stored task was not created, and nothing was run: {error}."
            raise self._failed(sentence) from error

    async def _callbacks(self, tasks: Sequence[NewTask], task_id: str) -> dict[str, Callback]:
        """Return a callback for each task, by the id of its new endpoint."""
        callbacks: dict[str, Callback] = {}
        for start in range(0, len(tasks), AT_ONCE):
            texts = [secrets.token_hex(32) for _ in tasks[start : start + AT_ONCE]]
            add = partial(self._store.endpoints.add_many, task_id=task_id)
            endpoint_ids = await run_in_threadpool(add, self._source.name, "run", texts)
            for endpoint_id, text in zip(endpoint_ids, texts, strict=True):
                callbacks[endpoint_id] = Callback(self._webhook_url(endpoint_id), text)
        return callbacks

    async def _not_created(
        self, endpoint_ids: list[str], error: FetchError, made: str
    ) -> ReceiverError:
        """Return the error; close the endpoints unless the sender may have made the batch."""
        if may_have_acted(error):
            return NotDone(
                f"The answer to the create call was lost ({error}). If the sender made the batch, "
                "its callbacks come in and their results are stored: see `event list`. Create it "
                f"again only if nothing shows there.{made}"
            )
        await run_in_threadpool(self._store.endpoints.close_many, endpoint_ids)
        return self._failed(f"The batch was not created: {error}.{made}")

    async def _register_batch(
        self, plan: Plan, batch_id: str, *, task_id: str, tasks: Sequence[NewTask]
    ) -> None:
        await self._keep_trying(
            lambda: self._store.batches.register(
                self._source.name,
                batch_id,
                endpoint_id=None,
                name=plan.name,
                runner=plan.runner,
                task_id=task_id,
                defaults=self._sender.defaults(plan, tasks),
            )
        )

    def _match(
        self,
        batch_id: str,
        runs: Sequence[FetchedRun],
        tasks: Sequence[NewTask],
        *,
        endpoint_ids: Sequence[str],
    ) -> list[tuple[FetchedRun, NewTask | None, str | None]]:
        """Match the runs, which come in the order of the request, with tasks and endpoints."""
        if len(runs) == len(tasks):
            return list(zip(runs, tasks, endpoint_ids, strict=True))
        self._warn(
            f"The sender named {len(runs)} runs for {len(tasks)} tasks of {batch_id}: which is "
            "whose cannot be told, so inputs are known only where the sender gives them back."
        )
        return [(run, None, None) for run in runs]

    async def _expect(
        self,
        batch_id: str,
        task_id: str,
        matched: Sequence[tuple[FetchedRun, NewTask | None, str | None]],
        *,
        unlisted: int,
    ) -> None:
        """Store the runs, and how many more the sender has made without naming them."""
        submitted = [
            SubmittedRun(run.run_id, task_id, dict(task.input) if task else None, endpoint_id)
            for run, task, endpoint_id in matched
        ]
        idempotency_key = secrets.token_hex(16)
        for start in range(0, max(len(submitted), 1), AT_ONCE):
            expect = partial(
                self._store.batches.add_runs,
                *(self._source.name, batch_id, submitted[start : start + AT_ONCE]),
                unlisted=0 if start else max(0, unlisted),
                idempotency_key=idempotency_key,
            )
            await self._keep_trying(expect)
