"""Endpoints of tasks and of their files; contracts/valyu.md, section 1.2."""

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.responses import Refusal, json_body, json_response, success
from receiver.sandbox.valyu import assets, views
from receiver.sandbox.valyu.records import DONE, ValyuTask
from receiver.sandbox.valyu.requests import CreateValyuTask, limit_of, origin_of, read
from receiver.sandbox.world import World


def _task(world: World, request: Request) -> ValyuTask:
    return world.valyu.research.task(request.path_params["deepresearch_id"])


async def create(world: World, request: Request) -> Response:
    """POST /deepresearch/tasks."""
    wanted = read(CreateValyuTask, await json_body(request))
    task = world.valyu.research.create_task(wanted, origin=origin_of(request))
    shown = views.created_task(task, world.switches)
    world.valyu.research.start([task])
    return json_response(success(shown, world.switches), world.switches.post_status)


async def list_all(world: World, request: Request) -> Response:
    """GET /deepresearch/list: a bare array, newest first."""
    tasks = list(world.valyu.research.tasks.values())[::-1]
    return json_response([views.summary(task) for task in tasks[: limit_of(request, most=100)]])


async def status(world: World, request: Request) -> Response:
    """GET /deepresearch/tasks/{id}/status: a 304 if the client has the same ETag."""
    task, switches = _task(world, request), world.switches
    response = json_response(success(views.task(task, world.panel), switches))
    if switches.poll_hint is not None and task.status not in DONE:
        response.headers["Retry-After"] = str(switches.poll_hint)
    if switches.etag:
        digest = hashlib.sha256(bytes(response.body)).hexdigest()
        response.headers["ETag"] = f'W/"{digest[:16]}"'
        if request.headers.get("if-none-match") == response.headers["ETag"]:
            headers = {k: v for k, v in response.headers.items() if k in ("etag", "retry-after")}
            return Response(status_code=304, headers=headers)
    return response


async def update(world: World, request: Request) -> Response:
    """POST /deepresearch/tasks/{id}/update."""
    task, body = _task(world, request), await json_body(request)
    instruction = body.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise Refusal(400, "instruction is required and cannot be empty")
    if task.status in DONE:
        raise Refusal(400, f"Cannot update a task that is {task.status}")
    return _message("Instruction added", task, world)


async def cancel(world: World, request: Request) -> Response:
    """POST /deepresearch/tasks/{id}/cancel."""
    task = _task(world, request)
    world.valyu.research.cancel_task(task)
    return _message("Task cancelled", task, world)


async def delete(world: World, request: Request) -> Response:
    """DELETE /deepresearch/tasks/{id}/delete."""
    task = _task(world, request)
    world.valyu.research.delete_task(task)
    return _message("Task deleted", task, world)


async def make_public(world: World, request: Request) -> Response:
    """POST /deepresearch/tasks/{id}/public."""
    task, body = _task(world, request), await json_body(request)
    if not isinstance(body.get("public"), bool):
        raise Refusal(400, "public must be true or false")
    task.public = body["public"]
    return _message("Visibility changed", task, world, public=task.public)


async def respond(world: World, request: Request) -> Response:
    """POST /deepresearch/tasks/{id}/respond."""
    task, body = _task(world, request), await json_body(request)
    world.valyu.research.respond(task, body)
    shown = {"status": "accepted", "deepresearch_id": task.deepresearch_id}
    return json_response(success(shown, world.switches))


def _message(message: str, task: ValyuTask, world: World, **more: bool) -> Response:
    shown = {"message": message, "deepresearch_id": task.deepresearch_id, **more}
    return json_response(success(shown, world.switches))


async def asset(world: World, request: Request) -> Response:
    """GET /deepresearch/tasks/{id}/assets/{asset_id}: needs the API key or the URL's token."""
    if token := request.query_params.get("token"):
        assets.check_token(request.url.path, token, world.clock)
    _task(world, request)
    return assets.asset(request.path_params["asset_id"])


async def pdf(world: World, request: Request) -> Response:
    """GET /deepresearch/tasks/{id}/pdf: needs the API key."""
    _task(world, request)
    return assets.pdf()


async def stored_pdf(world: World, request: Request) -> Response:
    """GET /storage/pdfs/{id}.pdf: needs a signature if the switches make such URLs."""
    if world.switches.pdf_url == "presigned":
        signature = request.query_params.get("signature", "")
        assets.check_token(request.url.path, signature, world.clock)
    return assets.pdf()
