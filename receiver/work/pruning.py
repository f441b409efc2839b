"""Pruning at intervals: each look deletes old rows for a bounded time, in small steps.

Acks go first, so each step is one small transaction with a pause after it. What one look does not
reach is left to the next one, which then follows soon.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from starlette.concurrency import run_in_threadpool

from receiver.errors import UsageError
from receiver.settings import RetentionSettings
from receiver.signatures.schemes import AnyScheme, Bearer
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle
from storage import KINDS, Ages, CannotStore, Store

LEAST_DAYS = 4.0
"""An event is kept at least so long. Parallel redelivers for two days; Valyu does not say. A
delivery signed two days ahead of our clock can also be replayed until it is two days old."""

FIRST_SECONDS = 60.0
EVERY_SECONDS = 600.0
BEHIND_SECONDS = 10.0
"""Seconds to the first look, between two looks, and after one that did not reach its end."""

LOOK_SECONDS = 5.0
PAUSE_SECONDS = 0.05
AHEAD = timedelta(hours=1)
WAIT_SECONDS = 86_400.0
"""After the clock has jumped ahead by so much, nothing is pruned for a day."""

LAP_SECONDS = 86_400.0
"""Interval at which the walk starts again at the oldest row, which may be free to go by now."""

log = get_logger("pruning")


def ages(settings: RetentionSettings, schemes: Iterable[AnyScheme]) -> Ages:
    """Return how long each kind is kept; raises UsageError for settings that must not be.

    An event that can still be redelivered must be known, or it would have its effect once more.
    """
    least = max([LEAST_DAYS, *(2 * _window(scheme) / 86_400 for scheme in schemes)])
    if settings.events is not None and settings.events < least:
        raise UsageError(
            f"The setting retention.events is wrong: {settings.events:g} days are too few, for "
            f"what was delivered may come again for {least:g}: write {least:g} or more, or never."
        )
    for name in ("deliveries", "attempts"):
        days = getattr(settings, name)
        if settings.events is not None and (days is None or days > settings.events):
            longer = "for ever" if days is None else f"for {days:g} days"
            raise UsageError(
                f"The setting retention.{name} is wrong: kept {longer} they would outlive their "
                f"events, which go after {settings.events:g}: keep them no longer than these."
            )
    return Ages(
        **{
            name: None if days is None else timedelta(days=days)
            for name, days in settings.model_dump().items()
        }
    )


def _window(scheme: AnyScheme) -> float:
    """Return the seconds that a signed timestamp may be off; 0 where none is signed."""
    signed = scheme.signature if isinstance(scheme, Bearer) else scheme
    return 0.0 if signed is None or signed.timestamp_header is None else signed.tolerance


class Pruning:
    """Deletes what is old, in the process that has the worker."""

    def __init__(
        self,
        store: Store,
        ages: Ages,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._ages = ages
        self._clock = clock
        self._sleep = sleep
        self._next_kinds = KINDS
        self._reached: dict[str, int] = {}
        self._lap_started = clock()
        self._seen = store.now(), clock()
        self._trusts_from = -math.inf
        self._has_warned = False
        self._throttle = Throttle(EVERY_SECONDS, clock=clock)

    async def run(self) -> None:
        """Prune until cancelled."""
        if self._ages == Ages():  # all is kept for ever
            return
        await self._sleep(FIRST_SECONDS)
        while True:
            is_behind = await self._look_safely()
            await self._sleep(BEHIND_SECONDS if is_behind else EVERY_SECONDS)

    async def _look_safely(self) -> bool:
        try:
            return await self.look()
        except CannotStore as error:
            self._throttle.log(log.warning, "store", "nothing can be pruned now", error=str(error))
        except Exception:  # noqa: BLE001  the service must outlive it: at worst the disk fills
            self._throttle.log(log.exception, "bug", "pruning broke")
        return False

    async def look(self) -> bool:
        """Delete for LOOK_SECONDS at most; returns True where more is left. Raises CannotStore.

        The kinds take turns, so that a mountain of one does not keep the others waiting; the next
        look starts with the kind that comes next.
        """
        if await run_in_threadpool(self._store.retention.clock_may_be_ahead):
            if not self._has_warned:
                log.warning("the clock is a day or more later than it was: nothing is pruned today")
            self._has_warned = True
            return False
        self._has_warned = False
        self._start_lap_if_due()
        ends = self._clock() + LOOK_SECONDS
        kinds, gone, size = deque(self._next_kinds), Counter[str](), 0
        while kinds and (began := self._clock()) < ends and self._trusts(began):
            kind = kinds.popleft()
            step = await run_in_threadpool(
                self._store.retention.prune, kind, self._ages, after=self._reached.get(kind, 0)
            )
            self._reached[kind] = step.reached
            gone[kind] += step.rows
            size += step.bytes
            if not step.is_end:
                kinds.append(kind)
            await self._sleep(max(PAUSE_SECONDS, self._clock() - began))
        self._next_kinds = (*kinds, *(kind for kind in KINDS if kind not in kinds))
        if gone.total():
            log.info("pruned", **{kind: gone[kind] for kind in KINDS if gone[kind]}, bytes=size)
        return bool(kinds)

    def _trusts(self, clock: float) -> bool:
        """Return False for a day after the store's clock went ahead of the monotonic clock."""
        (before, clock_before), self._seen = self._seen, (self._store.now(), clock)
        ahead = self._seen[0] - before - timedelta(seconds=clock - clock_before)
        if ahead > AHEAD:
            self._trusts_from = clock + WAIT_SECONDS
            log.warning("the clock went ahead: nothing is pruned for a day", by=str(ahead))
        return clock >= self._trusts_from

    def _start_lap_if_due(self) -> None:
        if self._clock() - self._lap_started >= LAP_SECONDS:
            self._lap_started = self._clock()
            self._reached.clear()
