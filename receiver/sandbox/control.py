"""The control routes under /_sandbox: look inside, turn switches, order faults and deliveries."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from receiver.sandbox.answers import Refusal, answer, json_body
from receiver.sandbox.switches import Fault, SandboxError, parse
from receiver.sandbox.world import World


def routes() -> list[BaseRoute]:
    """The control routes; they need no key, for only this machine can reach them."""
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
    """GET /_sandbox/state: counts, calls by method and path, and the log of deliveries."""
    world: World = request.state.world
    return answer(world.state())


async def change_switches(request: Request) -> Response:
    """PUT /_sandbox/switches: replaces the switches named and answers with all of them."""
    world: World = request.state.world
    try:
        world.change(await json_body(request))
    except SandboxError as error:
        raise Refusal(400, str(error)) from error
    return answer(world.switches.model_dump(mode="json"))


async def add_fault(request: Request) -> Response:
    """POST /_sandbox/faults: appends one fault to the plan and answers with what is planned."""
    world: World = request.state.world
    try:
        world.faults.add(parse(Fault, await json_body(request)))
    except SandboxError as error:
        raise Refusal(400, str(error)) from error
    return answer(world.faults.left(), 201)


async def deliver(request: Request) -> Response:
    """POST /_sandbox/deliver {id, times?, changes?}: sends a webhook (again), whatever happened.

    `id` is that of a batch, task or contents job of Valyu's, or of a run or group (all its runs)
    of Parallel's; `changes` replaces keys of the announced object before it is signed.
    """
    world: World = request.state.world
    body = await json_body(request)
    times, changes = body.get("times", 1), body.get("changes", {})
    if not isinstance(times, int) or times < 1 or not isinstance(changes, dict):
        raise Refusal(400, "times must be a whole number of at least 1, and changes an object")
    world.deliver(str(body.get("id")), times=times, changes=changes)
    return answer({"sending": times}, 202)


async def reset(request: Request) -> Response:
    """POST /_sandbox/reset: forgets everything and takes the first switches again."""
    world: World = request.state.world
    await world.reset()
    return answer({"reset": True})
