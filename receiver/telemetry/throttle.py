"""Limits a log line to one per key and interval."""

import math
import time
from collections.abc import Callable


class Throttle:
    """Lets one line per key and interval through, so that a flood of faults cannot fill the disk.

    Remembers at most `capacity` keys; while so many are fresh, it lets no further key through.
    Keys are few and ours (a reason, a source), never a text that a stranger sent.
    """

    def __init__(
        self,
        interval: float = 30.0,
        *,
        capacity: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval = interval
        self.capacity = capacity
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # oldest first: (last allowed, suppressed)

    def log(self, say: Callable[..., object], key: str, event: str, **fields: object) -> None:
        """Log an event through `say`, a logger's method, unless a line with this key is recent.

        Adds `suppressed`: how many lines with this key were left out since the last one.
        """
        suppressed = self.allow(key)
        if suppressed is not None:
            say(event, **fields, suppressed=suppressed)

    def allow(self, key: str) -> int | None:
        """Return how many lines were suppressed since the last one, None if this one is, too."""
        now = self._clock()
        last, suppressed = self._seen.get(key, (-math.inf, 0))
        if 0 <= now - last < self.interval:
            self._seen[key] = (last, suppressed + 1)
            return None
        self._seen.pop(key, None)
        if not self._has_room(now):
            return None
        self._seen[key] = (now, 0)
        return suppressed

    def _has_room(self, now: float) -> bool:
        while len(self._seen) >= self.capacity:
            oldest = next(iter(self._seen))
            if 0 <= now - self._seen[oldest][0] < self.interval:
                return False
            del self._seen[oldest]
        return True
