"""Waiting until the results of a batch, or of a single run, are stored."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError
from receiver.submissions.batches import Batches
from receiver.submissions.tasks import Tasks
from storage import CannotStore, Ledger, RunFacts, Store

T = TypeVar("T")

LOOK_SECONDS = 0.1
"""How often a waiting process looks whether anything was committed; it reads only then."""

AGAIN_SECONDS = 1.0
"""After how long a database that could not be read is read again."""

STATUS_SECONDS = 30.0
RUN_SECONDS = 10.0


async def wait(
    store: Store,
    batch_id: str,
    *,
    source: str | None,
    batches: Batches | None,
    deadline: float | None,
    progressed: Callable[[Ledger], None],
    unread: Callable[[Exception], None],
    status_seconds: float = STATUS_SECONDS,
) -> Ledger:
    """Return the ledger once the batch is complete, or as it is at the deadline (seconds).

    Wakes when any process has committed, and reads only then; the sender is asked for the status
    every `status_seconds`, to move the bar, and only where `batches` is given. A database that
    cannot be read is waited for too; `unread` is told the first time. Raises NotFound, and
    CannotStore where it still cannot be read at the deadline.
    """
    return await _until(
        store,
        lambda: store.batches.ledger(batch_id, source=source),
        lambda ledger: ledger.state == "complete",
        look=None if batches is None else lambda: batches.look(batch_id),
        deadline=deadline,
        progressed=progressed,
        unread=unread,
        failed=lambda _: None,  # the receiver's own work reports what is wrong
        seconds=status_seconds,
        looked=time.monotonic(),
    )


async def wait_for_run(
    store: Store,
    run_id: str,
    *,
    source: str,
    tasks: Tasks | None,
    deadline: float | None,
    progressed: Callable[[RunFacts], None],
    unread: Callable[[Exception], None],
    failed: Callable[[Exception], None],
    status_seconds: float = RUN_SECONDS,
) -> RunFacts:
    """Return what is known of a run once its result is stored, or as it is at the deadline.

    Like `wait`; but the sender is asked at once, what it tells is stored, and `failed` is told
    where it could not be asked, or that not stored.
    """
    return await _until(
        store,
        lambda: store.runs.show(run_id, source=source)[0],
        lambda facts: facts["result_status"] is not None,
        look=None if tasks is None else lambda: tasks.look(run_id),
        deadline=deadline,
        progressed=progressed,
        unread=unread,
        failed=failed,
        seconds=status_seconds,
        looked=None,
    )


async def _until(
    store: Store,
    read: Callable[[], T],
    is_over: Callable[[T], bool],
    *,
    look: Callable[[], Awaitable[Any]] | None,
    deadline: float | None,
    progressed: Callable[[T], None],
    unread: Callable[[Exception], None],
    failed: Callable[[Exception], None],
    seconds: float,
    looked: float | None,
) -> T:
    began = time.monotonic()
    with store.watch() as version:
        reader = _Reader(version, read, progressed, unread)
        while True:
            await reader.look()
            if reader.lost is None and is_over(reader.found):
                return reader.found
            left = None if deadline is None else began + deadline - time.monotonic()
            if left is not None and left <= 0:
                return reader.as_it_is()
            if reader.lost is not None:
                await asyncio.sleep(AGAIN_SECONDS if left is None else min(left, AGAIN_SECONDS))
            elif look is not None and (looked is None or time.monotonic() - looked >= seconds):
                looked = time.monotonic()
                await _ask(look, left, failed)
                reader.seen = None  # what we write ourselves does not wake us
            else:
                await asyncio.sleep(LOOK_SECONDS)


class _Reader(Generic[T]):
    """What is waited for, read again when somebody has committed; `lost`: why it cannot be now."""

    found: T

    def __init__(
        self,
        version: Callable[[], object],
        read: Callable[[], T],
        progressed: Callable[[T], None],
        unread: Callable[[Exception], None],
    ) -> None:
        self._version, self._read, self._progressed = version, read, progressed
        self._unread: Callable[[Exception], None] | None = unread
        self.seen: object = None
        self.lost: CannotStore | None = None

    async def look(self) -> None:
        """Read where there may be news, and show it."""
        try:
            current = self._version()
            if current != self.seen:
                self.found = await run_in_threadpool(self._read)
                self._progressed(self.found)
                self.seen = current
            self.lost = None
        except CannotStore as error:
            self.lost = error
            tell, self._unread = self._unread, None
            if tell is not None:
                tell(error)

    def as_it_is(self) -> T:
        """What was read last; raises CannotStore where it may be old."""
        if self.lost is None:
            return self.found
        said = str(self.lost).rstrip(".")
        raise CannotStore(f"{said}; the time to wait is over.") from self.lost


async def _ask(
    look: Callable[[], Awaitable[Any]], left: float | None, failed: Callable[[Exception], None]
) -> None:
    """Ask, for as long as there is time; what is known stays as it is where that fails."""
    try:
        async with asyncio.timeout(left):
            await look()
    except TimeoutError:
        """The deadline has come meanwhile."""
    except (FetchError, CannotStore) as error:
        failed(error)
