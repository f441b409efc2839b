"""Batches whose runs are all made in one call, each with a callback of its own (Parallel v0)."""

import secrets
from collections.abc import Callable, Sequence
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, NotDone
from receiver.providers.model import Callback, NewTask, Plan, Subject
from receiver.sender_api.calls import Calls
from receiver.sources import webhook_url
from receiver.submissions.retries import failed, keep_trying, may_have_acted, patiently
from storage import FetchedRun, StorageError, Store, SubmittedRun

AT_ONCE = 100
"""Endpoints made in one transaction: acks get between two of them."""


class Submitting:
    """Makes such batches for one source; `public_url` is where the sender reaches us."""

    def __init__(
        self,
        store: Store,
        calls: Calls,
        public_url: str,
        warn: Callable[[str], None],
        store_seconds: float,
    ) -> None:
        self._store = store
        self._calls = calls
        self._provider = calls.source.provider
        self._source = calls.source.name
        self._public_url = public_url
        self._warn = warn
        self._store_seconds = store_seconds

    async def submit(self, plan: Plan, tasks: Sequence[NewTask]) -> str:
        """Make the stored task where one is asked for, an endpoint for each run, then the batch.

        Returns the batch's id; raises NotDone that says what exists and what to do.
        """
        task_id = await self._stored_task(plan, tasks)
        callbacks = await self._callbacks(tasks, task_id)
        request = self._provider.add_tasks(
            Subject("task", task_id),
            tasks,
            defaults=self._provider.defaults(plan, tasks) or {},
            callbacks=list(callbacks.values()),
        )
        try:
            data = await patiently(self._calls, request)
            batch_id = self._provider.read_created(data).id
        except FetchError as error:
            made = "" if plan.task_id else f" Its stored task is there: --task {task_id}."
            raise await self._not_created(list(callbacks), error, made) from error
        runs = self._provider.read_added(data)
        try:
            await self._register(plan, batch_id, task_id, runs, list(callbacks), tasks)
        except StorageError as error:
            raise NotDone(
                f"The sender made {batch_id} of task {task_id}, but it could not be stored here: "
                f"{str(error).rstrip('.')}. Do not create it again; once that is mended: "
                f"endpoint add {self._source} --kind batch --resource {batch_id} --task {task_id}."
            ) from error
        return batch_id

    async def _stored_task(self, plan: Plan, tasks: Sequence[NewTask]) -> str:
        if plan.task_id is not None:
            return plan.task_id
        request = self._provider.create_batch(plan, tasks, webhook_url=None)
        assert request is not None  # noqa: S101  the plan names no task that there is
        try:
            return self._provider.read_created(await patiently(self._calls, request)).id
        except FetchError as error:
            sentence = f"The stored task was not created, and nothing was run: {error}."
            raise failed(self._calls, sentence) from error

    async def _callbacks(self, tasks: Sequence[NewTask], task_id: str) -> dict[str, Callback]:
        """A callback for each task, by the id of its endpoint."""
        callbacks: dict[str, Callback] = {}
        for start in range(0, len(tasks), AT_ONCE):
            texts = [secrets.token_hex(32) for _ in tasks[start : start + AT_ONCE]]
            made = await run_in_threadpool(
                lambda texts=texts: self._store.endpoints.add_many(  # type: ignore[misc]
                    self._source, "run", texts, task_id=task_id
                )
            )
            for endpoint_id, text in zip(made, texts, strict=True):
                url = webhook_url(self._public_url, self._source, endpoint_id)
                callbacks[endpoint_id] = Callback(url, text)
        return callbacks

    async def _not_created(
        self, endpoint_ids: list[str], error: FetchError, made: str
    ) -> Exception:
        if may_have_acted(error):
            return NotDone(
                f"The answer to the create call was lost ({error}). If the sender made the batch, "
                "its callbacks come in and their results are stored: see `event list`. Create it "
                f"again only if nothing shows there.{made}"
            )
        await run_in_threadpool(self._store.endpoints.close_many, endpoint_ids)
        return failed(self._calls, f"The batch was not created: {error}.{made}")

    async def _register(
        self,
        plan: Plan,
        batch_id: str,
        task_id: str,
        runs: Sequence[FetchedRun],
        endpoint_ids: Sequence[str],
        tasks: Sequence[NewTask],
    ) -> None:
        """Know the batch and its runs, which come in the order of the request."""
        await self._keep_trying(
            lambda: self._store.batches.register(
                self._source,
                batch_id,
                endpoint_id=None,
                name=plan.name,
                runner=plan.runner,
                task_id=task_id,
                defaults=self._provider.defaults(plan, tasks),
            )
        )
        in_order = len(runs) == len(tasks)
        if not in_order:
            self._warn(
                f"The sender named {len(runs)} runs for {len(tasks)} tasks of {batch_id}: which is "
                "whose cannot be told, so inputs are known only where the sender gives them back."
            )
        submitted = [
            SubmittedRun(
                run.run_id,
                task_id,
                dict(tasks[place].input) if in_order else None,
                endpoint_ids[place] if in_order else None,
            )
            for place, run in enumerate(runs)
        ]
        missing, addition = max(0, len(tasks) - len(runs)), secrets.token_hex(16)
        for start in range(0, max(len(submitted), 1), AT_ONCE):
            part = submitted[start : start + AT_ONCE]
            expect = partial(
                self._store.batches.add_runs,
                *(self._source, batch_id, part),
                unlisted=0 if start else missing,
                idempotency_key=addition,
            )
            await self._keep_trying(expect)

    async def _keep_trying(self, write: Callable[[], None]) -> None:
        await keep_trying(write, seconds=self._store_seconds)
