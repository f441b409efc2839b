"""Time in the sandbox: planned calls run in the order of their times, however late they run."""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(order=True, slots=True)
class PlannedCall:
    """One call at its time; calls for the same time run in the order in which they were planned."""

    due: float
    number: int
    callback: Callable[[], Any] = field(compare=False)
    is_cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Keep the call from being made."""
        self.is_cancelled = True


class SandboxClock:
    """The machine's clock, and the calls that are planned by it.

    While a planned call runs, the clock stands at exactly the time that it was planned for. What
    the call plans in turn therefore has the same time, and comes in the same order, whether the
    machine was idle or too busy to run it at once. `attach` comes before the first plan.
    """

    def __init__(self) -> None:
        self._calls: list[PlannedCall] = []
        self._numbered = 0
        self._stopped_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run planned calls on this event loop from now on."""
        self._loop = loop

    def seconds(self) -> float:
        """Return seconds that only ever grow, from a beginning that means nothing."""
        return self._steady() if self._stopped_at is None else self._stopped_at

    def time(self) -> float:
        """Return the seconds since 1970."""
        late = 0.0 if self._stopped_at is None else self._steady() - self._stopped_at
        return self._wall() - late

    def now(self) -> datetime:
        """Return the date and time in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def call_after(self, seconds: float, callback: Callable[[], Any]) -> PlannedCall:
        """Plan a call on the event loop."""
        self._numbered += 1
        call = PlannedCall(self.seconds() + seconds, self._numbered, callback)
        heapq.heappush(self._calls, call)
        if self._calls[0] is call and self._stopped_at is None:
            self._set_alarm()
        return call

    async def sleep(self, seconds: float) -> None:
        """Wait for that many seconds."""
        await self.wait_for(asyncio.Event(), until=self.seconds() + seconds)

    async def wait_for(self, event: asyncio.Event, *, until: float) -> bool:
        """Wait until the event is set; return False if `seconds` reaches `until` before."""
        waiting = asyncio.ensure_future(event.wait())
        timeout = self.call_after(until - self.seconds(), waiting.cancel)
        try:
            await asyncio.wait([waiting])
        finally:
            timeout.cancel()
            waiting.cancel()
        return event.is_set()

    def run_due(self) -> None:
        """Make the calls whose time has come, in order, with all that they plan for that time."""
        try:
            while self._calls and self._calls[0].due <= self._steady():
                call = heapq.heappop(self._calls)
                if not call.is_cancelled:
                    with self.stopped(call.due):
                        call.callback()
        finally:
            self._set_alarm()

    @contextmanager
    def stopped(self, at: float | None = None) -> Iterator[None]:
        """Let the clock stand still for the block, so that all of it has the same time."""
        before = self._stopped_at
        self._stopped_at = self.seconds() if at is None else at
        try:
            yield
        finally:
            self._stopped_at = before
            if before is None:
                self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._calls and self._loop is not None:
            wait = max(self._calls[0].due - self._steady(), 0.0)
            self._alarm = self._loop.call_later(wait, self.run_due)

    def _steady(self) -> float:
        return time.monotonic()

    def _wall(self) -> float:
        return time.time()


class ManualClock(SandboxClock):
    """A clock that moves only when `advance` is called, for tests.

    Its dates are those of the machine, later by the seconds that were advanced. Where a sandbox
    runs by this clock, `advance` and `next_call` are for any thread but the sandbox's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        self._passed_before = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass, and return after all calls that were planned for it."""
        self._on_loop(lambda: self._pass(seconds))

    def next_call(self) -> float | None:
        """Return the seconds until the next planned call, or None if none is planned."""
        return self._on_loop(self._until_next)

    def restart(self) -> None:
        """Return to the machine's date; planned calls stay planned."""
        self._passed_before = self._passed

    def _on_loop(self, work: Callable[[], Result]) -> Result:
        if self._loop is None:
            return work()

        async def on_loop() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()

    def _pass(self, seconds: float) -> None:
        end = self._passed + seconds
        while self._calls and self._calls[0].due <= end:
            self._passed = max(self._passed, self._calls[0].due)
            self.run_due()
        self._passed = end

    def _until_next(self) -> float | None:
        planned = [call.due for call in self._calls if not call.is_cancelled]
        return round(min(planned) - self._passed, 6) if planned else None

    def _set_alarm(self) -> None:
        if self._loop is not None and self._calls and self._calls[0].due <= self._passed:
            self._loop.call_soon(self.run_due)

    def _steady(self) -> float:
        return self._passed

    def _wall(self) -> float:
        return time.time() + self._passed - self._passed_before
