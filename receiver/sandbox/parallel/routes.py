"""Routes of Parallel's v1 API, the check of its API key, and the JSON of its errors.

The API is at /v1 and at /v1beta, because its documents have named both.
"""

import uuid
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route

from receiver.sandbox.endpoints import route
from receiver.sandbox.parallel import groups, tasks
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Switches
from receiver.sandbox.world import World

PREFIXES = ("/v1/tasks", "/v1beta/tasks")
RUN = "/runs/{run_id}"
GROUP = "/groups/{group_id}"


def routes() -> list[BaseRoute]:
    """Return the API, which has no call to list, cancel or delete anything."""
    return [Mount(prefix, routes=_below(prefix)) for prefix in PREFIXES]


def _below(prefix: str) -> list[Route]:
    run_calls = [
        ("POST", "/runs", tasks.create),
        ("GET", RUN, tasks.status),
        ("GET", f"{RUN}/input", tasks.given_input),
        ("GET", f"{RUN}/result", tasks.result),
        ("GET", f"{RUN}/events", tasks.events),
    ]
    group_calls = [
        ("POST", "/groups", groups.create),
        ("GET", GROUP, groups.status),
        ("POST", f"{GROUP}/runs", groups.add_runs),
        ("GET", f"{GROUP}/runs", groups.list_runs),
        ("GET", f"{GROUP}/events", groups.events),
        ("GET", f"{GROUP}{RUN}", groups.run),
    ]
    return [
        route(*each, key=_require_key, errors=errors, prefix=prefix)
        for calls, errors in ((run_calls, error_body), (group_calls, group_error_body))
        for each in calls
    ]


def _require_key(world: World, request: Request) -> None:
    key, only = request.headers.get("x-api-key", ""), world.switches.api_key
    if not (key.strip() if only is None else key == only):
        raise Refusal(401)


def error_body(refusal: Refusal, switches: Switches) -> dict[str, Any]:
    """Return an error as runs answer it; no body of Parallel's says how long to wait."""
    error: dict[str, Any] = {"ref_id": str(uuid.uuid4()), "message": refusal.error}
    if refusal.detail is not None:
        error["details" if switches.parallel_details else "detail"] = refusal.detail
    return {"type": "error", "error": error}


def group_error_body(refusal: Refusal, switches: Switches) -> dict[str, Any]:
    """Return an error as groups answer it; the contract has another form for their 422."""
    if refusal.status != 422 or switches.parallel_plain_422:
        return error_body(refusal, switches)
    return {"detail": [{"loc": ["body"], "msg": refusal.error, "type": "value_error"}]}
