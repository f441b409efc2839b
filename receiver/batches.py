"""Creating batches endpoint first, adding to them, and waiting for their results."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.calls import Calls, NotReached
from receiver.errors import FetchError, RateLimited, Unavailable, UsageError
from receiver.providers import Created, NewTask, Request
from receiver.signatures import prepare
from storage import FetchedRun, Ledger, Store, SubmittedRun

LOOK_SECONDS = 0.1
"""How often a waiting process looks whether anything was committed; it reads only then."""

STATUS_SECONDS = 30.0
PATIENCE = 5
"""How often a call that creates something is repeated after a 429."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a batch is made of."""

    name: str | None
    mode: str | None
    schema: Any
    tasks: Sequence[NewTask]


class Batches:
    """The batches of one source. `public_url` is where the sender reaches us."""

    def __init__(self, store: Store, calls: Calls, public_url: str | None) -> None:
        self._store = store
        self._calls = calls
        self._source = calls.source
        self._provider = calls.source.provider
        self._public_url = public_url

    async def create(
        self, new: NewBatch, *, created: Callable[[str], None], added: Callable[[int], None]
    ) -> str:
        """Make the endpoint, then the batch, register its secret, then add the tasks.

        `created` is told the batch's id, `added` how many tasks the sender has accepted so far.
        Raises UsageError that says what exists and what to do where a step failed.
        """
        if self._public_url is None:
            raise UsageError(
                "The setting public_url is missing: set RESULTSINK_PUBLIC_URL to the https "
                "address at which the sender reaches this receiver."
            )
        endpoint_id = await run_in_threadpool(self._store.add_endpoint, self._source.name, "batch")
        try:
            batch = await self._create(new, endpoint_id)
        except (FetchError, ValueError) as error:
            raise await self._not_created(endpoint_id, error) from error
        await run_in_threadpool(
            lambda: self._store.register_batch(
                self._source.name,
                batch.batch_id,
                endpoint_id=endpoint_id,
                secret=batch.secret,
                name=new.name,
                runner=new.mode,
            )
        )
        created(batch.batch_id)
        await self.add(batch.batch_id, new.tasks, added=added)
        return batch.batch_id

    async def add(
        self,
        batch_id: str,
        tasks: Sequence[NewTask],
        *,
        added: Callable[[int], None],
        skipped: int = 0,
    ) -> None:
        """Add tasks in calls of as many as the sender takes; raises UsageError where it stops.

        `skipped` is how many tasks of the user's file were left out before these.
        """
        size = self._provider.tasks_per_call
        for start in range(0, len(tasks), size):
            part = tasks[start : start + size]
            try:
                data = await self._patiently(self._provider.add_tasks(batch_id, part))
            except FetchError as error:
                raise UsageError(
                    f"{start} of {len(tasks)} tasks were added to {batch_id}, then: {error}. "
                    f"{_before_going_on(error, batch_id, len(part))}: "
                    f"batch add {batch_id} --tasks FILE --skip {skipped + start}."
                ) from error
            runs = _submitted(self._provider.read_added(data), part)
            await run_in_threadpool(self._store.add_runs, self._source.name, batch_id, runs)
            added(start + len(part))

    async def cancel(self, batch_id: str) -> None:
        """Ask the sender to cancel; raises UsageError with its answer where it refuses."""
        try:
            await self._patiently(self._provider.cancel_batch(batch_id))
        except FetchError as error:
            raise UsageError(f"{batch_id} was not cancelled: {error}.") from error
        await self.look(batch_id)

    async def look(self, batch_id: str) -> Ledger:
        """Ask the sender for the batch's status and keep it; raises FetchError."""
        data = await self._calls.call(self._provider.batch(batch_id))
        batch = self._provider.read_batch(data, batch_id)
        return await run_in_threadpool(self._store.note_batch, self._source.name, batch)

    async def _create(self, new: NewBatch, endpoint_id: str) -> Created:
        assert self._public_url is not None  # noqa: S101  the caller looked
        url = webhook_url(self._public_url, self._source.name, endpoint_id)
        request = self._provider.create_batch(
            name=new.name, mode=new.mode, webhook_url=url, schema=new.schema
        )
        batch = self._provider.read_created(await self._patiently(request))
        if batch.secret is not None:
            try:
                prepare(self._source.scheme, batch.secret)
            except ValueError as error:
                raise ValueError(f"the sender made {batch.batch_id}, but {error}") from None
        return batch

    async def _not_created(self, endpoint_id: str, error: Exception) -> UsageError:
        """Leave nothing behind where the sender refused; keep looking where we cannot know."""
        if isinstance(error, Unavailable) and not isinstance(error, NotReached):
            return UsageError(
                f"The answer to the create call was lost ({error}). If the sender made the batch, "
                f"its results are found without a webhook: see endpoint {endpoint_id} in "
                "`endpoint list`, and `batch list` after ten minutes. Create it again only if "
                "nothing shows there."
            )
        await run_in_threadpool(self._store.close_endpoint, endpoint_id)
        await run_in_threadpool(self._store.end_checks, endpoint_id)
        return UsageError(f"The batch was not created: {error}.")

    async def _patiently(self, request: Request) -> Any:
        """Wait out a 429; nothing else is repeated, for the sender may have acted on it."""
        for _ in range(PATIENCE):
            try:
                return await self._calls.call(request)
            except RateLimited as limited:
                await asyncio.sleep(min(limited.retry_after or 1.0, 60.0))
        return await self._calls.call(request)


def webhook_url(public_url: str, source: str, endpoint_id: str) -> str:
    """The URL that a sender is given for an endpoint."""
    return f"{public_url}/webhooks/{source}/{endpoint_id}"


def _before_going_on(error: FetchError, batch_id: str, tasks: int) -> str:
    """An answer that was lost may be that of an addition which was made, and is charged."""
    if isinstance(error, Unavailable) and not isinstance(error, NotReached):
        return f"Look with `batch status {batch_id}` whether the next {tasks} were added; if not"
    return "Once that is mended"


def _submitted(runs: Sequence[FetchedRun], tasks: Sequence[NewTask]) -> list[SubmittedRun]:
    """Match accepted runs with what we sent: by the user's id, or by position where all came."""
    by_id = {task.task_id: task for task in tasks if task.task_id is not None}
    in_order = len(runs) == len(tasks)
    matched = []
    for position, run in enumerate(runs):
        task = by_id.get(run.task_id or "") or (tasks[position] if in_order else None)
        matched.append(
            SubmittedRun(
                run_id=run.run_id,
                task_id=run.task_id or (task.task_id if task else None),
                input=dict(task.input) if task else None,
            )
        )
    return matched


async def wait(
    store: Store,
    batch_id: str,
    *,
    source: str | None,
    batches: Batches | None,
    deadline: float | None,
    progressed: Callable[[Ledger], None],
    status_seconds: float = STATUS_SECONDS,
) -> Ledger:
    """Return the ledger once the batch is complete, or as it is at the deadline (seconds).

    Wakes when any process has committed, and reads only then; the sender is asked for the status
    every `status_seconds`, to move the bar, and only where `batches` is given. Raises NotFound.
    """
    began = time.monotonic()
    asked = began
    with store.watch() as version:
        seen = None
        while True:
            current = version()
            if current != seen:
                ledger = await run_in_threadpool(lambda: store.ledger(batch_id, source=source))
                progressed(ledger)
                if ledger.state == "complete":
                    return ledger
                seen = current
            if deadline is not None and time.monotonic() - began >= deadline:
                return ledger
            if batches is not None and time.monotonic() - asked >= status_seconds:
                asked = time.monotonic()
                await _move_the_bar(batches, batch_id)
            await asyncio.sleep(LOOK_SECONDS)


async def _move_the_bar(batches: Batches, batch_id: str) -> None:
    try:
        await batches.look(batch_id)
    except FetchError:
        """The bar stays where it is; the receiver's own work reports what is wrong."""
