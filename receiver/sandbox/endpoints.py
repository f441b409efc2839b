"""The way of a request to its endpoint: counted, hit by a planned fault, checked for its key."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.faults import instead, spoil
from receiver.sandbox.responses import ErrorBody, Refusal, json_response
from receiver.sandbox.world import World

Endpoint = Callable[[World, Request], Awaitable[Response]]
KeyCheck = Callable[[World, Request], None]


def below_v1(path: str) -> str:
    """Return a path as faults and counts name it: without /v1; /v1beta and /v0 stay."""
    return path.removeprefix("/v1") if path.startswith("/v1/") else path


def route(
    method: str,
    path: str,
    endpoint: Endpoint,
    *,
    key: KeyCheck,
    errors: ErrorBody,
    prefix: str = "/v1",
) -> Route:
    """Return the route of one endpoint, with all that comes before it.

    `path` is relative to `prefix`, where the caller mounts it; `errors` writes a refusal as JSON.
    """
    name = f"{method} {below_v1(prefix + path)}"

    async def serve(request: Request) -> Response:
        world: World = request.state.world
        # Before the answer, or it would depend on whether the loop was too busy for its timers.
        world.clock.run_due()
        world.calls[name] += 1

        def body_of(refusal: Refusal) -> dict[str, Any]:
            return errors(refusal, world.switches)

        fault = world.faults.take(request.method, below_v1(request.url.path), request.url.query)
        if fault and (refusal := instead(fault, body_of, world.clock)):
            return refusal
        try:
            key(world, request)
            response = await endpoint(world, request)
        except Refusal as refused:
            return json_response(body_of(refused), refused.status)
        return await spoil(fault, response, world.clock) if fault else response

    return Route(path, serve, methods=[method])
