"""The sandbox as an ASGI application, which `server` runs on this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox import control
from receiver.sandbox.clock import SandboxClock
from receiver.sandbox.parallel import routes as parallel
from receiver.sandbox.parallel_v0 import routes as parallel_v0
from receiver.sandbox.responses import ErrorBody, Refusal, as_refusal, error_body, json_response
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu import routes as valyu
from receiver.sandbox.world import World

# Writers of errors for paths that no route has, by how the path begins; Valyu writes the others.
ERRORS: dict[str, ErrorBody] = {
    "/v1/tasks/": parallel.error_body,
    "/v1beta/": parallel.error_body,
    "/v0/": parallel_v0.error_body,
}


class SandboxState(TypedDict):
    """State that the lifespan gives to every request."""

    world: World


def create_sandbox(
    switches: Switches | None = None, *, clock: SandboxClock | None = None
) -> Starlette:
    """Return the simulated senders with their first switches; they keep nothing on disk.

    Faults that cut connections need the server in `receiver.sandbox.server`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[SandboxState]:
        own_clock = clock or SandboxClock()
        own_clock.attach(asyncio.get_running_loop())
        world = World(switches or Switches(), own_clock)
        try:
            yield {"world": world}
        finally:
            await world.close()

    return Starlette(
        # Valyu is the last sender, because its /v1 would match Parallel's /v1/tasks too.
        routes=[*control.routes(), *parallel.routes(), *parallel_v0.routes(), *valyu.routes()],
        lifespan=lifespan,
        exception_handlers={Refusal: _refused, HTTPException: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    """Answer a Refusal of a control route, and starlette's own 404 and 405."""
    path, refusal = request.url.path, as_refusal(error)
    errors = (body for start, body in ERRORS.items() if path.startswith(start))
    shown = next(errors, error_body)(refusal, request.state.world.switches)
    return json_response(shown, refusal.status)
