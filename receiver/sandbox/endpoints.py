"""What every request of a sender's API goes through before it comes to its endpoint."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.answers import ErrorBody, Refusal, answer
from receiver.sandbox.faults import instead, spoil
from receiver.sandbox.world import World

Endpoint = Callable[[World, Request], Awaitable[Response]]
KeyCheck = Callable[[World, Request], None]


def below_v1(path: str) -> str:
    """A path as faults and counts name it: without /v1, but with /v1beta, /v0 and all others."""
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
    """One endpoint, behind the count of calls, the planned faults and the check of the key.

    `path` is below `prefix`, where the caller mounts it; `errors` writes what is refused.
    """
    name = f"{method} {below_v1(prefix + path)}"

    async def serve(request: Request) -> Response:
        world: World = request.state.world
        world.calls[name] += 1

        def body_of(refusal: Refusal) -> dict[str, Any]:
            return errors(refusal, world.switches)

        fault = world.faults.take(request.method, below_v1(request.url.path), request.url.query)
        if fault and (refusal := instead(fault, body_of)):
            return refusal
        try:
            key(world, request)
            response = await endpoint(world, request)
        except Refusal as refused:
            return answer(body_of(refused), refused.status)
        return await spoil(fault, response) if fault else response

    return Route(path, serve, methods=[method])
