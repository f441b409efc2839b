"""A log line at most once per interval and key."""

import math


class Throttle:
    """At most one line per key and interval, so that a flood of faults does not fill the disk.

    Remembers at most `capacity` keys; while so many are fresh, a further key is not allowed at
    all. Keys are meant to be few and ours (a reason, a source), never what a stranger sent.
    """

    def __init__(self, interval: float = 30.0, *, capacity: int = 1000) -> None:
        self.interval = interval
        self.capacity = capacity
        self._seen: dict[str, tuple[float, int]] = {}  # oldest first: (last allowed, suppressed)

    def allow(self, key: str, now: float) -> int | None:
        """How many were suppressed since the last line if one may be logged now, else None."""
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
