"""GET /healthz (the process lives) and GET /readyz (it can write)."""

import asyncio
import math
import time

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from storage import CannotStore, Store

READY_SECONDS = 1.0
READY_WITHIN_SECONDS = 1.5


async def alive(request: Request) -> Response:
    """Answer GET /healthz."""
    del request
    return JSONResponse({"status": "alive"})


class Readiness:
    """Readiness of the store: a small write has reached the disk within the last second.

    It makes one write a second, however many ask: anybody can.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._looked_at = -math.inf
        self._fault: CannotStore | None = None

    async def look(self) -> Response:
        """Return 200, or 503 with the reason."""
        async with self._turn:
            if time.monotonic() - self._looked_at >= READY_SECONDS:
                self._fault = await self._write()
                self._looked_at = time.monotonic()
        if self._fault is None:
            return JSONResponse({"status": "ready"})
        reason = str(self._fault)
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    async def _write(self) -> CannotStore | None:
        try:
            async with asyncio.timeout(READY_WITHIN_SECONDS):
                await to_thread.run_sync(self._store.probe, abandon_on_cancel=True)
        except CannotStore as fault:
            return fault
        except TimeoutError:
            return CannotStore("The database does not answer.")
        return None


async def ready(request: Request) -> Response:
    """Answer GET /readyz with what Readiness says."""
    readiness: Readiness = request.state.readiness
    return await readiness.look()
