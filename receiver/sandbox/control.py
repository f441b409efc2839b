"""Control routes under /_sandbox: read the state, change switches, order faults and deliveries."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from receiver.sandbox.responses import Refusal, json_body, json_response
from receiver.sandbox.switches import Fault, SandboxError, parse
from receiver.sandbox.world import World


def routes() -> list[BaseRoute]:
    """Return the control routes; they need no key, because only this machine can reach them."""
    return [
        Mount(
            "/_sandbox",
            routes=[
                Route("/state", state, methods=["GET"]),
                Route("/switches", change_switches, methods=["PUT"]),
                Route("/faults", add_fault, methods=["POST"]),
                Route("/deliver", deliver, methods=["POST"]),
                Route("/reset", reset, methods=["POST"]),
            ],
        )
    ]


async def state(request: Request) -> Response:
    """GET /_sandbox/state: answer with the counts, calls by endpoint, and the delivery log."""
    world: World = request.state.world
    return json_response(world.state())


async def change_switches(request: Request) -> Response:
    """PUT /_sandbox/switches: replace the switches named, and answer with all of them."""
    world: World = request.state.world
    try:
        world.change(await json_body(request))
    except SandboxError as error:
        raise Refusal(400, str(error)) from error
    return json_response(world.switches.model_dump(mode="json"))


async def add_fault(request: Request) -> Response:
    """POST /_sandbox/faults: add one fault to the plan, and answer with the plan."""
    world: World = request.state.world
    try:
        world.faults.add(parse(Fault, await json_body(request)))
    except SandboxError as error:
        raise Refusal(400, str(error)) from error
    return json_response(world.faults.left(), 201)


async def deliver(request: Request) -> Response:
    """POST /_sandbox/deliver {id, times?, changes?}: send a webhook, for the first time or again.

    `id` names a batch, task or contents job of Valyu, or a run, group or batch of Parallel; a
    group or batch of Parallel stands for all its runs. `changes` replaces keys of the announced
    object before it is signed.
    """
    world: World = request.state.world
    body = await json_body(request)
    times, changes = body.get("times", 1), body.get("changes", {})
    if not isinstance(times, int) or times < 1 or not isinstance(changes, dict):
        raise Refusal(400, "times must be a whole number of at least 1, and changes an object")
    world.deliver(str(body.get("id")), times=times, changes=changes)
    return json_response({"sending": times}, 202)


async def reset(request: Request) -> Response:
    """POST /_sandbox/reset: forget all state, and return to the first switches."""
    world: World = request.state.world
    await world.reset()
    return json_response({"reset": True})
