"""The sandbox as an ASGI application; `server` runs it, on this machine only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox import control
from receiver.sandbox.answers import ErrorBody, Refusal, answer, as_refusal, error_body
from receiver.sandbox.parallel import routes as parallel
from receiver.sandbox.parallel_v0 import routes as parallel_v0
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu import routes as valyu
from receiver.sandbox.world import World

# Who answers for paths that nobody has, by how they begin; all others are Valyu's.
ERRORS: dict[str, ErrorBody] = {
    "/v1/tasks/": parallel.error_body,
    "/v1beta/": parallel.error_body,
    "/v0/": parallel_v0.error_body,
}


class State(TypedDict):
    """What the lifespan hands to the requests."""

    world: World


def create_sandbox(switches: Switches | None = None) -> Starlette:
    """The simulated senders, with the switches they start with; they keep nothing on disk.

    Faults that cut connections need the server in `receiver.sandbox.server`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        world = World(switches or Switches())
        try:
            yield {"world": world}
        finally:
            await world.close()

    return Starlette(
        # Valyu comes last of the senders, for its /v1 would take Parallel's /v1/tasks as well.
        routes=[*control.routes(), *parallel.routes(), *parallel_v0.routes(), *valyu.routes()],
        lifespan=lifespan,
        exception_handlers={Refusal: _refused, HTTPException: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    """Answers a Refusal of a control route, and starlette's own 404 and 405."""
    path, refusal = request.url.path, as_refusal(error)
    errors = (body for start, body in ERRORS.items() if path.startswith(start))
    shown = next(errors, error_body)(refusal, request.state.world.switches)
    return answer(shown, refusal.status)
