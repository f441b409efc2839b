"""The API's addresses, with the scope that each request needs and the handler that answers it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from receiver.api import batches, endpoints
from receiver.api.access import authenticate, require
from receiver.api.context import ApiContext
from receiver.api.idempotency import once
from receiver.api.requests import ApiRequest
from receiver.api.responses import CLOSE, RETRY_AFTER, Problem
from receiver.json_values import word
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle
from storage import CannotStore, TokenExpired, TokenView, WrongKey

Handler = Callable[[ApiRequest], Awaitable[Response]]

PREFIX: Final = "/api/v1"

ROUTES: Final[Mapping[str, Mapping[str, tuple[str, Handler]]]] = {
    "/endpoints": {"POST": ("register", endpoints.add)},
    "/endpoints/{endpoint_id}": {
        "GET": ("register", endpoints.show),
        "DELETE": ("register", endpoints.close),
    },
    "/endpoints/{endpoint_id}/secret": {"PUT": ("register", endpoints.set_secret)},
    "/batches": {"GET": ("read", batches.list_all)},
    "/batches/{batch_id}": {"GET": ("read", batches.show)},
    "/batches/{batch_id}/results": {"GET": ("read", batches.results)},
    "/results": {"GET": ("read", batches.all_results)},
    "/runs/{run_id}": {"GET": ("read", batches.run)},
}
"""Below PREFIX: for each address and method, the scope that a token needs, and its handler."""

_PATTERNS = [(compile_path(path)[0], methods) for path, methods in ROUTES.items()]

log = get_logger("api")


class Api:
    """The ASGI application below PREFIX; works with the ApiContext of the lifespan's state.

    Without a valid token every address is answered alike, whether it exists or not.
    """

    def __init__(self) -> None:
        self._refusals = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request, scope["state"]["api"])
        except Problem as problem:
            response = problem.response()
        except (CannotStore, WrongKey) as fault:
            self._log("the api cannot use the database", 503, error=str(fault))
            response = Problem(
                503, "The database cannot be used now: try again in 5 seconds.", headers=RETRY_AFTER
            ).response()
        # Outside the try: an error once the answer has begun must break the connection.
        await response(scope, receive, send)

    async def _answer(self, request: Request, context: ApiContext) -> Response:
        token: TokenView | None = None
        try:
            token = await authenticate(request, context)
            methods, params = _find(request)
            if request.method not in methods:
                allowed = ", ".join(methods)
                raise Problem(405, f"Use {allowed} here.", headers={"allow": allowed, **CLOSE})
            needed, handle = methods[request.method]
            require(token, needed)
            wanted = ApiRequest(request, context, token, params)
            return await (once(wanted, handle) if request.method == "POST" else handle(wanted))
        except Problem as problem:
            if isinstance(problem.__cause__, TokenExpired):
                expired = problem.__cause__.token_id
                self._log("request refused: the token has expired", 401, by=expired)
            elif problem.status in (401, 403):
                self._log("request refused", problem.status, by=token and token.id)
            raise

    def _log(self, event: str, status: int, **more: object) -> None:
        """Log a line, throttled: anybody can provoke it."""
        self._refusals.log(log.warning, f"{event} {status}", event, status=status, **more)


def _find(request: Request) -> tuple[Mapping[str, tuple[str, Handler]], dict[str, str]]:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    for pattern, methods in _PATTERNS:
        found = pattern.match(path)
        if found and all(word(value) for value in found.groupdict().values()):
            return methods, found.groupdict()
    raise Problem(404, f"There is no such address below {PREFIX}: docs/api.md lists them.")
