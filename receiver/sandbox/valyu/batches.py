"""Endpoints of batches; contracts/valyu.md, section 1.4."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.responses import Refusal, json_body, json_response, success
from receiver.sandbox.valyu import listing, views
from receiver.sandbox.valyu.records import TASK_STATUSES
from receiver.sandbox.valyu.requests import AddTasks, CreateValyuBatch, limit_of, origin_of, read
from receiver.sandbox.world import World


async def create(world: World, request: Request) -> Response:
    """POST /deepresearch/batches."""
    wanted = read(CreateValyuBatch, await json_body(request))
    batch = world.valyu.research.create_batch(wanted, origin=origin_of(request))
    shown = views.created_batch(batch, world.switches)
    return json_response(success(shown, world.switches), world.switches.post_status)


async def list_all(world: World, request: Request) -> Response:
    """GET /deepresearch/batches: a bare array, newest first."""
    newest = list(world.valyu.research.batches.values())[::-1][: limit_of(request)]
    return json_response([views.batch(each, world.switches) for each in newest])


async def status(world: World, request: Request) -> Response:
    """GET /deepresearch/batches/{batch_id}."""
    batch = world.valyu.research.batch(request.path_params["batch_id"])
    return json_response(success(views.batch(batch, world.switches), world.switches))


async def add_tasks(world: World, request: Request) -> Response:
    """POST /deepresearch/batches/{batch_id}/tasks: adds all of the tasks or none."""
    batch = world.valyu.research.batch(request.path_params["batch_id"])
    wanted = read(AddTasks, await json_body(request))
    added = world.valyu.research.add_tasks(batch, wanted.tasks)
    shown = {
        "batch_id": batch.batch_id,
        "added": len(added),
        "tasks": [views.added_task(task) for task in added],
        "counts": views.counts(batch),
    }
    world.valyu.research.start(added)
    return json_response(success(shown, world.switches), world.switches.post_status)


async def list_tasks(world: World, request: Request) -> Response:
    """GET /deepresearch/batches/{batch_id}/tasks: one page."""
    switches, query = world.switches, request.query_params
    batch = world.valyu.research.batch(request.path_params["batch_id"])
    if (wanted := query.get("status")) is not None and wanted not in TASK_STATUSES:
        raise Refusal(400, f"status must be one of {', '.join(TASK_STATUSES)}")
    limit = min(limit_of(request) or switches.page_size, switches.max_page_size)
    start = listing.read_cursor(query["last_key"]) if "last_key" in query else 0
    tasks, pagination = listing.page(batch, switches, status=wanted, limit=limit, start=start)
    outputs = query.get("include_output") == "true" and switches.outputs_in_list
    shown = {
        "batch_id": batch.batch_id,
        "tasks": [views.listed_task(each, world.panel, include_output=outputs) for each in tasks],
        "pagination": pagination,
    }
    return json_response(success(shown, switches))


async def cancel(world: World, request: Request) -> Response:
    """POST /deepresearch/batches/{batch_id}/cancel."""
    batch = world.valyu.research.batch(request.path_params["batch_id"])
    cancelled = world.valyu.research.cancel_batch(batch)
    shown = {"batch_id": batch.batch_id, "status": batch.status, "cancelled_count": cancelled}
    return json_response(success(shown, world.switches))
