"""Routes and endpoints of Parallel's historical v0 API; contracts/parallel.md, section 1.1."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from receiver.sandbox.endpoints import Endpoint, route
from receiver.sandbox.parallel_v0 import export, views
from receiver.sandbox.parallel_v0.records import V0Batch
from receiver.sandbox.parallel_v0.requests import CreateV0Batch, CreateV0Run, CreateV0Task, read
from receiver.sandbox.responses import Refusal, json_response
from receiver.sandbox.switches import Switches
from receiver.sandbox.world import World

PREFIX = "/v0"
TASK = "/tasks/{task_id}"
BATCH = f"{TASK}/batches/{{batch_run_id}}"
RUN = f"{TASK}/runs/{{run_id}}"


def routes() -> list[BaseRoute]:
    """Return the API, which has no call to list, cancel or delete anything."""
    api = [
        _route("POST", "/tasks", create_task),
        _route("POST", f"{TASK}/runners/{{runner}}/runs", create_run),
        _route("GET", RUN, run_itself),
        _route("GET", f"{RUN}/result", run_result),
        _route("POST", f"{TASK}/batches", create_batch),
        _route("GET", BATCH, batch_status),
        _route("GET", f"{BATCH}/export", export_batch),
    ]
    return [Mount(PREFIX, routes=api)]


def error_body(refusal: Refusal, switches: Switches) -> dict[str, Any]:
    """Return an error as plainly as possible, since no source shows one."""
    body: dict[str, Any] = {"error": refusal.error}
    return body if refusal.retry_after is None else {**body, "retry_after": refusal.retry_after}


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    return route(method, path, endpoint, key=_require_key, errors=error_body, prefix=PREFIX)


def _require_key(world: World, request: Request) -> None:
    if not request.headers.get("x-api-key", "").strip():
        raise Refusal(401)


async def create_task(world: World, request: Request) -> Response:
    """POST /tasks."""
    task = world.v0.runs.create_task(await read(CreateV0Task, request))
    return json_response({"task_id": task.task_id}, world.switches.post_status)


async def create_run(world: World, request: Request) -> Response:
    """POST /tasks/{task_id}/runners/{runner}/runs: answered at the end, unless `enqueue_run`."""
    runs = world.v0.runs
    task = runs.task(request.path_params["task_id"])
    wanted = await read(CreateV0Run, request)
    run = runs.create_run(task, request.path_params["runner"], wanted)
    shown = views.run(run)
    runs.start([run])
    if not wanted.enqueue_run:
        await run.ended.wait()
        shown = views.run(run)
    return json_response(shown, world.switches.post_status)


async def run_itself(world: World, request: Request) -> Response:
    """GET /tasks/{task_id}/runs/{run_id}, if the switches have runs here."""
    return _run(world, request, exists=world.switches.v0_run_path != "result")


async def run_result(world: World, request: Request) -> Response:
    """GET /tasks/{task_id}/runs/{run_id}/result, if the switches have runs here."""
    return _run(world, request, exists=world.switches.v0_run_path != "run")


def _run(world: World, request: Request, *, exists: bool) -> Response:
    if not exists:
        raise Refusal(404, "Not found")
    run = world.v0.runs.run(request.path_params["task_id"], request.path_params["run_id"])
    return json_response(views.run(run))


async def create_batch(world: World, request: Request) -> Response:
    """POST /tasks/{task_id}/batches."""
    runs = world.v0.runs
    task = runs.task(request.path_params["task_id"])
    batch = runs.create_batch(task, await read(CreateV0Batch, request))
    runs.start(batch.runs)
    return json_response(views.created_batch(batch), world.switches.post_status)


def _batch(world: World, request: Request) -> V0Batch:
    given = request.path_params
    return world.v0.runs.batch(given["task_id"], given["batch_run_id"])


async def batch_status(world: World, request: Request) -> Response:
    """GET /tasks/{task_id}/batches/{batch_run_id}."""
    return json_response({"status_map": views.status_map(_batch(world, request))})


async def export_batch(world: World, request: Request) -> Response:
    """GET /tasks/{task_id}/batches/{batch_run_id}/export?format=json|csv: sent in pieces."""
    wanted = request.query_params.get("format", "json")
    runs = export.exported(_batch(world, request), world.switches)
    if wanted == "csv":
        return _streamed(export.as_csv(runs), "text/csv")
    if wanted != "json":
        raise Refusal(422, "format: json or csv")
    if world.switches.v0_export_json == "ndjson":
        return _streamed(export.as_lines(runs), "application/x-ndjson")
    return _streamed(export.as_array(runs), "application/json")


def _streamed(pieces: Iterator[bytes], media_type: str) -> Response:
    async def taken() -> AsyncIterator[bytes]:
        # Not in a thread, or runs could end while they are written.
        for piece in pieces:
            yield piece

    return StreamingResponse(taken(), media_type=media_type)
