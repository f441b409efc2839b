"""Routes of Valyu's HTTP API under /v1, and the check of its API key."""

from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route

from receiver.sandbox.endpoints import Endpoint, KeyCheck, route
from receiver.sandbox.responses import Refusal, error_body
from receiver.sandbox.valyu import batches, contents, tasks
from receiver.sandbox.world import World

PREFIX = "/v1"
BATCH = "/deepresearch/batches/{batch_id}"
TASK = "/deepresearch/tasks/{deepresearch_id}"


def routes() -> list[BaseRoute]:
    """Return the API, and the storage that links of results lead to."""
    api = [
        _route("POST", "/deepresearch/batches", batches.create),
        _route("GET", "/deepresearch/batches", batches.list_all),
        _route("GET", BATCH, batches.status),
        _route("POST", f"{BATCH}/tasks", batches.add_tasks),
        _route("GET", f"{BATCH}/tasks", batches.list_tasks),
        _route("POST", f"{BATCH}/cancel", batches.cancel),
        _route("POST", "/deepresearch/tasks", tasks.create),
        _route("GET", "/deepresearch/list", tasks.list_all),
        _route("GET", f"{TASK}/status", tasks.status),
        _route("POST", f"{TASK}/update", tasks.update),
        _route("POST", f"{TASK}/cancel", tasks.cancel),
        _route("DELETE", f"{TASK}/delete", tasks.delete),
        _route("POST", f"{TASK}/public", tasks.make_public),
        _route("POST", f"{TASK}/respond", tasks.respond),
        _route("GET", f"{TASK}/pdf", tasks.pdf),
        _route("GET", f"{TASK}/assets/{{asset_id}}", tasks.asset, key=_key_or_token),
        _route("POST", "/contents", contents.create),
        _route("GET", "/contents/jobs/{job_id}", contents.status),
    ]
    stored = _route("GET", "/storage/pdfs/{name}", tasks.stored_pdf, key=_no_key)
    return [Mount(PREFIX, routes=api), stored]


def _require_key(world: World, request: Request) -> None:
    key, only = request.headers.get("x-api-key", ""), world.switches.api_key
    if not (key.startswith("val_") if only is None else key == only):
        raise Refusal(401)


def _key_or_token(world: World, request: Request) -> None:
    if "token" not in request.query_params:
        _require_key(world, request)


def _no_key(world: World, request: Request) -> None:
    """Accept every request: the endpoint checks the signature of the URL."""


def _route(method: str, path: str, endpoint: Endpoint, *, key: KeyCheck = _require_key) -> Route:
    return route(method, path, endpoint, key=key, errors=error_body)
