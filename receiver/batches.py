"""Creating batches endpoint first, adding to them, and waiting for their results."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver import accepted
from receiver.accepted import Accepted, Part
from receiver.calls import Calls, NotReached
from receiver.errors import (
    FetchError,
    NotDone,
    NotReady,
    RateLimited,
    ReceiverError,
    Refused,
    Unavailable,
    UsageError,
)
from receiver.logs import get_logger
from receiver.providers import Created, NewTask, Request
from receiver.providers.reading import whole
from receiver.signatures import prepare
from storage import CannotStore, Ledger, StorageError, Store

T = TypeVar("T")

log = get_logger("batches")

LOOK_SECONDS = 0.1
"""How often a waiting process looks whether anything was committed; it reads only then."""

STATUS_SECONDS = 30.0
PATIENCE = 5
"""How often a call that creates something is repeated after a 429."""

STORE_SECONDS = 60.0
"""For how long we try to store what the sender says only once."""

STORE_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a batch is made of. `skipped` tasks of the user's file were left out before these."""

    name: str | None
    mode: str | None
    schema: Any
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
        """Make the endpoint, then the batch, register its secret, then add the tasks.

        `created` is told the batch's id, `added` how many tasks the sender has accepted so far.
        Raises NotDone that says what exists and what to do where a step failed, and UsageError
        where nothing could be begun.
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
        await self._register(new, batch, endpoint_id)
        created(batch.batch_id)
        await self.add(batch.batch_id, new.tasks, added=added, skipped=new.skipped)
        return batch.batch_id

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
        size = self._provider.tasks_per_call
        for start in range(0, len(tasks), size):
            part = Part(batch_id, tasks[start : start + size], start, len(tasks), skipped)
            try:
                data = await self._patiently(self._provider.add_tasks(batch_id, part.tasks))
            except FetchError as error:
                raise await self._not_added(part, error) from error
            await self._expect(part, data)
            added(part.after)

    async def _expect(self, part: Part, data: Any) -> None:
        """Store what the sender accepted; raises NotDone where that is not all that was sent."""
        runs, told = self._provider.read_added(data), _told(data)
        if not runs and told is None:
            raise NotDone(accepted.says_nothing(part))
        answer = accepted.compare(runs, told, part.tasks)
        try:
            await self._keep_trying(
                lambda: self._store.add_runs(
                    self._source.name, part.batch_id, answer.runs, unlisted=answer.unlisted
                )
            )
        except StorageError as error:
            raise NotDone(accepted.not_stored(part, answer, error)) from error
        self._complain(part, answer)

    def _complain(self, part: Part, answer: Accepted) -> None:
        if answer.unlisted:
            self._warn(accepted.without_ids(part, answer))
        if answer.refused:
            raise NotDone(accepted.too_few(part, answer))

    async def cancel(self, batch_id: str) -> None:
        """Ask the sender to cancel; raises NotDone with its answer where it refuses."""
        try:
            await self._patiently(self._provider.cancel_batch(batch_id))
        except FetchError as error:
            raise self._failed(f"{batch_id} was not cancelled: {error}.") from error
        with suppress(FetchError, CannotStore):  # it is cancelled, whether we see it or not
            await self.look(batch_id)
        await self._check_soon(batch_id)

    async def status(self, batch_id: str) -> None:
        """Ask for the status, and have what has ended so far brought in; raises NotDone."""
        try:
            await self.look(batch_id)
        except FetchError as error:
            raise self._failed(f"The sender did not tell of {batch_id}: {error}.") from error
        await self._check_soon(batch_id)

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
        return self._provider.read_created(await self._patiently(request))

    async def _register(self, new: NewBatch, batch: Created, endpoint_id: str) -> None:
        """Keep the new batch with its secret, which nobody shows again; raises NotDone."""
        secret = self._usable(batch, endpoint_id)
        try:
            await self._keep_trying(
                lambda: self._store.register_batch(
                    self._source.name,
                    batch.batch_id,
                    endpoint_id=endpoint_id,
                    secret=secret,
                    name=new.name,
                    runner=new.mode,
                )
            )
        except StorageError as error:
            raise NotDone(_not_registered(batch.batch_id, endpoint_id, error)) from error

    def _usable(self, batch: Created, endpoint_id: str) -> str | None:
        """The batch's secret; None, after a warning, where no webhook can be verified with it."""
        why = f"The sender gave no signing secret for {batch.batch_id}"
        if batch.secret is not None:
            try:
                prepare(self._source.scheme, batch.secret)
            except ValueError as error:
                why = f"The signing secret for {batch.batch_id} cannot be used ({error})"
            else:
                return batch.secret
        self._warn(
            f"{why}: its webhooks cannot be verified, so its results are found by checks, the "
            "first after ten minutes. If the sender shows you a secret: "
            f"endpoint secret {endpoint_id}."
        )
        return None

    async def _not_created(self, endpoint_id: str, error: Exception) -> ReceiverError:
        """Leave nothing behind where the sender refused; keep looking where we cannot know."""
        if isinstance(error, Unavailable) and not isinstance(error, NotReached):
            return NotDone(
                f"The answer to the create call was lost ({error}). If the sender made the batch, "
                f"its results are found without a webhook: see endpoint {endpoint_id} in "
                "`endpoint list`, and `batch list` after ten minutes. Create it again only if "
                "nothing shows there."
            )
        with suppress(StorageError):  # an endpoint that stays, and its checks, harm nobody
            await run_in_threadpool(self._store.close_endpoint, endpoint_id)
            await run_in_threadpool(self._store.end_checks, endpoint_id)
        sentence = f"The batch was not created: {error}."
        return UsageError(sentence) if isinstance(error, ValueError) else self._failed(sentence)

    async def _not_added(self, part: Part, error: FetchError) -> ReceiverError:
        """What to do where a call that adds tasks failed."""
        if isinstance(error, Refused | NotReady) and await self._has_ended(part.batch_id):
            return NotDone(accepted.has_ended(part, error, self._source.name))
        return self._failed(
            f"{part.before} of {part.total} tasks were added to {part.batch_id}, then: {error}. "
            f"{_before_going_on(error, part)}: {part.again()}."
        )

    async def _has_ended(self, batch_id: str) -> bool:
        try:
            data = await self._calls.call(self._provider.batch(batch_id))
            return self._provider.read_batch(data, batch_id).is_terminal
        except FetchError:
            return False

    def _failed(self, sentence: str) -> ReceiverError:
        """Without a key nobody was asked: that is wrong use."""
        without_key = self._source.settings.api_key is None
        return UsageError(sentence) if without_key else NotDone(sentence)

    async def _check_soon(self, batch_id: str) -> None:
        """Have what is there brought in now; at its next turn where we cannot say so."""
        with suppress(CannotStore):
            ledger = await run_in_threadpool(
                lambda: self._store.ledger(batch_id, source=self._source.name)
            )
            if ledger.endpoint_id is not None:
                await run_in_threadpool(self._store.check_soon, ledger.endpoint_id)

    async def _keep_trying(self, write: Callable[[], T]) -> T:
        """Store what is told only once, however long the database is locked or the disk full.

        Raises the last StorageError when it has been for too long.
        """
        until = time.monotonic() + self._store_seconds
        while True:
            try:
                return await run_in_threadpool(write)
            except CannotStore:
                if time.monotonic() >= until:
                    raise
                await asyncio.sleep(STORE_AGAIN_SECONDS)

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


def _before_going_on(error: FetchError, part: Part) -> str:
    """An answer that was lost may be that of an addition which was made, and is charged."""
    if isinstance(error, Unavailable) and not isinstance(error, NotReached):
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
    except (FetchError, CannotStore):
        """The bar stays where it is; the receiver's own work reports what is wrong."""
