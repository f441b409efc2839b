"""Waiting until the results of a batch, or of a single run, are stored."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError
from receiver.submissions.batches import BatchSubmissions
from receiver.submissions.tasks import TaskSubmissions
from storage import CannotStore, Ledger, RunFacts, Store

T = TypeVar("T")

LOOK_SECONDS = 0.1
"""Interval at which to look whether anything was committed; the store is read only then."""

REREAD_SECONDS = 1.0
"""Pause before a database is read again that could not be read."""

STATUS_SECONDS = 30.0
RUN_SECONDS = 10.0


async def wait(
    store: Store,
    batch_id: str,
    *,
    source: str | None,
    batches: BatchSubmissions | None,
    deadline: float | None,
    progressed: Callable[[Ledger], None],
    unread: Callable[[Exception], None],
    status_seconds: float = STATUS_SECONDS,
) -> Ledger:
    """Return the ledger once the batch is complete, or as it is at the deadline (seconds).

    Reads only when any process has committed. Where `batches` is given, the status is fetched from
    the sender every `status_seconds`, so that the progress bar moves. `progressed` is called with
    each new ledger; `unread` is called with the error when the database cannot be read for the
    first time, and the wait goes on. Raises NotFound, and CannotStore where it still cannot be read
    at the deadline.
    """
    return await _until(
        store,
        lambda: store.batches.ledger(batch_id, source=source),
        lambda ledger: ledger.state == "complete",
        look=None if batches is None else lambda: batches.look(batch_id),
        deadline=deadline,
        progressed=progressed,
        unread=unread,
        failed=lambda _: None,  # the receiver logs what is wrong
        seconds=status_seconds,
        looked=time.monotonic(),
    )


async def wait_for_run(
    store: Store,
    run_id: str,
    *,
    source: str,
    tasks: TaskSubmissions | None,
    deadline: float | None,
    progressed: Callable[[RunFacts], None],
    unread: Callable[[Exception], None],
    failed: Callable[[Exception], None],
    status_seconds: float = RUN_SECONDS,
) -> RunFacts:
    """Return what is stored of a run once its result is, or as it is at the deadline.

    Like `wait`, but the run is first fetched from the sender at once, and `failed` is called with
    the error where it could not be fetched or stored.
    """
    return await _until(
        store,
        lambda: store.runs.show(run_id, source=source)[0],
        lambda facts: facts["result_status"] is not None,
        look=None if tasks is None else lambda: tasks.look(run_id, by="wait"),
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
        reader = _Reader(version, read, progressed=progressed, unread=unread)
        while True:
            await reader.look()
            if reader.lost is None and is_over(reader.found):
                return reader.found
            left = None if deadline is None else began + deadline - time.monotonic()
            if left is not None and left <= 0:
                return reader.last()
            if reader.lost is not None:
                await asyncio.sleep(REREAD_SECONDS if left is None else min(left, REREAD_SECONDS))
            elif look is not None and (looked is None or time.monotonic() - looked >= seconds):
                looked = time.monotonic()
                await _look_at_sender(look, left, failed)
                reader.seen = None  # our own commit does not count as a change
            else:
                await asyncio.sleep(LOOK_SECONDS)


class _Reader(Generic[T]):
    """Reads again when somebody has committed; `lost` is the error while that is impossible."""

    found: T

    def __init__(
        self,
        version: Callable[[], object],
        read: Callable[[], T],
        *,
        progressed: Callable[[T], None],
        unread: Callable[[Exception], None],
    ) -> None:
        self._version, self._read, self._progressed = version, read, progressed
        self._unread: Callable[[Exception], None] | None = unread
        self.seen: object = None
        self.lost: CannotStore | None = None

    async def look(self) -> None:
        """Read where somebody has committed, and report it."""
        try:
            current = self._version()
            if current != self.seen:
                self.found = await run_in_threadpool(self._read)
                self._progressed(self.found)
                self.seen = current
            self.lost = None
        except CannotStore as error:
            self.lost = error
            report, self._unread = self._unread, None
            if report is not None:
                report(error)

    def last(self) -> T:
        """Return what was read last; raises CannotStore where it may be outdated."""
        if self.lost is None:
            return self.found
        reason = str(self.lost).rstrip(".")
        raise CannotStore(f"{reason}; the time to wait is over.") from self.lost


async def _look_at_sender(
    look: Callable[[], Awaitable[Any]], left: float | None, failed: Callable[[Exception], None]
) -> None:
    """Look at the sender for the time that is left; an error is reported and changes nothing."""
    try:
        async with asyncio.timeout(left):
            await look()
    except TimeoutError:
        """The deadline has come."""
    except (FetchError, CannotStore) as error:
        failed(error)
