"""Waiting until the results of batches, or of a single run, are stored."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.submissions.looks import Looks
from receiver.submissions.tasks import TaskSubmissions
from storage import CannotStore, Ledger, RunFacts, Store

T = TypeVar("T")

LOOK_SECONDS = 0.1
"""Interval at which to look whether anything was committed; the store is read only then."""

REREAD_SECONDS = 1.0
"""Pause before a database is read again that could not be read."""

ASK_SECONDS = 30.0
RUN_SECONDS = 10.0

YOUNG_SECONDS = 10.0
"""While a batch is younger, its webhooks may still be on their way: the sender is not asked yet."""


async def wait(
    store: Store,
    batches: Sequence[Ledger],
    *,
    check: Callable[[Ledger], Awaitable[Any]],
    deadline: float | None,
    progressed: Callable[[Sequence[Ledger]], None],
    unread: Callable[[Exception], None],
    passed: Callable[[], None] = lambda: None,
    is_left: Callable[[], bool] = lambda: False,
    ask_seconds: float = ASK_SECONDS,
    young_seconds: float = YOUNG_SECONDS,
) -> list[Ledger]:
    """Return the ledgers once all batches are complete, or as they are at the deadline (seconds).

    Reads only when any process has committed. `check` is called for each open batch, once it is
    `young_seconds` old and then every `ask_seconds`, to have fetched what has ended at the sender.
    `progressed` is called with the ledgers whenever they were read, `passed` all the time; `unread`
    is called with the error when the database cannot be read for the first time, and the wait goes
    on. Once `is_left` returns True, it is over too. Raises NotFound, and CannotStore where the
    ledgers still cannot be read at the deadline.
    """
    looks = Looks(ask_seconds)

    def look(ledgers: Sequence[Ledger]) -> None:
        for each in ledgers:
            if each.state != "complete":
                age = (store.now() - each.created_at).total_seconds()
                key = (each.source, each.batch_id)
                looks.begin_if_due(key, partial(check, each), first_in=young_seconds - age)

    return await _until(
        store,
        _Ledgers(store, batches).read,
        lambda ledgers: all(each.state == "complete" for each in ledgers),
        looks=looks,
        look=look,
        deadline=deadline,
        progressed=progressed,
        unread=unread,
        passed=passed,
        is_left=is_left,
    )


class _Ledgers:
    """The ledgers of batches; one that is complete is not read again."""

    def __init__(self, store: Store, batches: Sequence[Ledger]) -> None:
        self._store = store
        self._last = list(batches)

    def read(self) -> list[Ledger]:
        self._last = [
            each
            if each.state == "complete"
            else self._store.batches.ledger(each.batch_id, source=each.source)
            for each in self._last
        ]
        return self._last


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
    is_left: Callable[[], bool] = lambda: False,
    ask_seconds: float = RUN_SECONDS,
) -> RunFacts:
    """Return what is stored of a run once its result is, or as it is at the deadline.

    Like `wait`, but the run itself is fetched where `tasks` is given, at once and then every
    `ask_seconds`; `failed` is called with the error where it could not be fetched or stored.
    """
    looks = Looks(ask_seconds, failed=failed)

    def look(_: RunFacts) -> None:
        if tasks is not None:
            looks.begin_if_due(run_id, partial(tasks.look, run_id, by="wait"))

    return await _until(
        store,
        lambda: store.runs.show(run_id, source=source)[0],
        lambda facts: facts["result_status"] is not None,
        looks=looks,
        look=look,
        deadline=deadline,
        progressed=progressed,
        unread=unread,
        passed=lambda: None,
        is_left=is_left,
    )


async def _until(
    store: Store,
    read: Callable[[], T],
    is_over: Callable[[T], bool],
    *,
    looks: Looks,
    look: Callable[[T], None],
    deadline: float | None,
    progressed: Callable[[T], None],
    unread: Callable[[Exception], None],
    passed: Callable[[], None],
    is_left: Callable[[], bool],
) -> T:
    began = time.monotonic()
    with store.watch() as version:
        reader = _Reader(version, read, progressed=progressed, unread=unread)
        async with looks:
            while True:
                await reader.look()
                passed()
                if reader.lost is None and is_over(reader.found):
                    return reader.found
                left = None if deadline is None else began + deadline - time.monotonic()
                if is_left() or (left is not None and left <= 0):
                    return reader.last()
                pause = REREAD_SECONDS
                if reader.lost is None:
                    look(reader.found)
                    pause = LOOK_SECONDS
                await asyncio.sleep(pause if left is None else min(left, pause))


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
        self._seen: object = None
        self.lost: CannotStore | None = None

    async def look(self) -> None:
        """Read where somebody has committed, and report it."""
        try:
            current = self._version()
            if current != self._seen:
                self.found = await run_in_threadpool(self._read)
                self._progressed(self.found)
                self._seen = current
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
