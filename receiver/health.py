"""GET /healthz and GET /readyz: whether the process lives, and whether it can write."""

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
    """GET /healthz: the process answers."""
    del request
    return JSONResponse({"status": "alive"})


class Readiness:
    """GET /readyz: a small write has reached the disk within the last second.

    However many ask, one write a second is made: anybody can ask.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._looked_at = -math.inf
        self._fault: CannotStore | None = None

    async def look(self) -> Response:
        """200, or 503 with the reason."""
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
    """GET /readyz; see Readiness."""
    readiness: Readiness = request.state.readiness
    return await readiness.look()
