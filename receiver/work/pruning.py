"""The clock of retention: now and then a bounded look for what is old enough, in small steps.

Acks go first, so each step is one small transaction with a pause behind it. What a look did not
come to is left to the next one, which follows soon then.
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
"""An event is kept so long at least. Parallel delivers again for two days, of Valyu nobody knows;
and a copy of what was signed two days ahead of our clock is genuine until it is two behind."""

FIRST_SECONDS = 60.0
EVERY_SECONDS = 600.0
BEHIND_SECONDS = 10.0
"""Until the first look; between two looks; and where the last one did not come to its end."""

LOOK_SECONDS = 5.0
PAUSE_SECONDS = 0.05
AHEAD = timedelta(hours=1)
WAIT_SECONDS = 86_400.0
"""A clock that jumps ahead by so much is not believed for a day: what is let go of is gone."""

LAP_SECONDS = 86_400.0
"""How often the walk begins anew at the oldest: what had to stay then may be free to go now."""

log = get_logger("pruning")


def ages(settings: RetentionSettings, schemes: Iterable[AnyScheme]) -> Ages:
    """How long each kind is kept; raises UsageError, one sentence, where that cannot be.

    What can still be delivered again must be known then, or it would have its effect once more.
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
    """Seconds that a timestamp may be off; none where there is no timestamp."""
    signed = scheme.signature if isinstance(scheme, Bearer) else scheme
    return 0.0 if signed is None or signed.timestamp_header is None else signed.tolerance


class Pruning:
    """Lets go of what is old, in the process that works off the jobs."""

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
        self._turns = KINDS
        self._reached: dict[str, int] = {}
        self._lap_began = clock()
        self._seen = store.now(), clock()
        self._believes_from = -math.inf
        self._is_told = False
        self._complaints = Throttle(EVERY_SECONDS)

    async def run(self) -> None:
        """Look until cancelled."""
        if self._ages == Ages():  # everything is kept for ever
            return
        await self._sleep(FIRST_SECONDS)
        while True:
            is_behind = await self._try()
            await self._sleep(BEHIND_SECONDS if is_behind else EVERY_SECONDS)

    async def _try(self) -> bool:
        try:
            return await self.look()
        except CannotStore as error:
            self._complain(error)
        except Exception:  # the service must outlive it: the worst that comes of it is a full disk
            if self._complaints.allow("bug", self._clock()) is not None:
                log.exception("pruning broke")
        return False

    async def look(self) -> bool:
        """Let go for LOOK_SECONDS at most; says whether there is more. Raises CannotStore.

        Every kind has its turn, so that a mountain of one does not keep the others waiting; the
        next look begins with whose turn it is then.
        """
        if await run_in_threadpool(self._store.retention.clock_may_be_ahead):
            if not self._is_told:
                log.warning("the clock is a day or more later than it was: nothing is pruned today")
            self._is_told = True
            return False
        self._is_told = False
        self._begin_a_lap_if_due()
        ends = self._clock() + LOOK_SECONDS
        kinds, gone, size = deque(self._turns), Counter[str](), 0
        while kinds and (began := self._clock()) < ends and self._believes(began):
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
        self._turns = (*kinds, *(kind for kind in KINDS if kind not in kinds))
        if gone.total():
            log.info("pruned", **{kind: gone[kind] for kind in KINDS if gone[kind]}, bytes=size)
        return bool(kinds)

    def _believes(self, clock: float) -> bool:
        """Whether the time that has passed by the store's clock has passed by another one, too."""
        (before, clock_before), self._seen = self._seen, (self._store.now(), clock)
        ahead = self._seen[0] - before - timedelta(seconds=clock - clock_before)
        if ahead > AHEAD:
            self._believes_from = clock + WAIT_SECONDS
            log.warning("the clock went ahead: nothing is pruned for a day", by=str(ahead))
        return clock >= self._believes_from

    def _begin_a_lap_if_due(self) -> None:
        if self._clock() - self._lap_began >= LAP_SECONDS:
            self._lap_began = self._clock()
            self._reached.clear()

    def _complain(self, error: Exception) -> None:
        suppressed = self._complaints.allow("store", self._clock())
        if suppressed is not None:
            log.warning("nothing can be pruned now", error=str(error), suppressed=suppressed)
