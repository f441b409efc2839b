"""Keeps refused requests for the operator, off the path of the answer, at a bounded rate."""

import asyncio
from collections import deque

from starlette.concurrency import run_in_threadpool

from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle
from storage import CannotStore, Store, UnverifiedDelivery

ROWS_PER_SECOND = 5
MAX_WAITING = 20
MAX_WAITING_BYTES = 1024 * 1024
"""Size of the bodies that may wait here: they no longer count as in flight."""

log = get_logger("quarantine")


class QuarantineWriter:
    """Writes refused requests and matching readings; drops what comes too fast.

    A flood of forgeries costs at most ROWS_PER_SECOND small writes, whatever its size.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._refused: deque[UnverifiedDelivery] = deque()
        self._readings: dict[int, str] = {}
        self._wake = asyncio.Event()
        self._throttle = Throttle()

    def offer(self, refused: UnverifiedDelivery) -> None:
        """Keep a refused request, unless too many or too large ones wait already."""
        bytes_waiting = sum(len(waiting.body) for waiting in self._refused)
        if len(self._refused) < MAX_WAITING and bytes_waiting < MAX_WAITING_BYTES:
            self._refused.append(refused)
            self._wake.set()

    def remember(self, secret_id: int, reading: str) -> None:
        """Store which reading of a secret matched."""
        self._readings[secret_id] = reading
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._refused or self._readings:
                await self._write()
                await asyncio.sleep(1 / ROWS_PER_SECOND)

    async def _write(self) -> None:
        try:
            if self._readings:
                secret_id, reading = next(iter(self._readings.items()))
                await run_in_threadpool(self._store.endpoints.remember_reading, secret_id, reading)
                if self._readings[secret_id] == reading:  # else another has matched meanwhile
                    del self._readings[secret_id]
            if self._refused:
                await run_in_threadpool(self._store.quarantine.keep, self._refused.popleft())
        except CannotStore as error:
            self._throttle.log(
                log.warning, "quarantine", "a refused request could not be kept", error=str(error)
            )
