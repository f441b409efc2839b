"""Endpoints of single runs; contracts/parallel.md, section 2.2."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.parallel import streams, views
from receiver.sandbox.parallel.outputs import output
from receiver.sandbox.parallel.records import ParallelRun
from receiver.sandbox.parallel.requests import (
    CreateParallelRun,
    RunQuery,
    check_run,
    json_of,
    read,
    read_query,
)
from receiver.sandbox.responses import Refusal, json_response
from receiver.sandbox.world import World


def _run(world: World, request: Request) -> ParallelRun:
    return world.parallel.runs.run(request.path_params["run_id"])


async def create(world: World, request: Request) -> Response:
    """POST /tasks/runs."""
    sent = await json_of(request)
    wanted = read(CreateParallelRun, sent)
    check_run(wanted, request, world.switches)
    run = world.parallel.runs.create_run(wanted, sent)
    shown = views.run(run, world.switches)
    world.parallel.runs.start([run])
    return json_response(shown, 202)


async def status(world: World, request: Request) -> Response:
    """GET /tasks/runs/{run_id}."""
    return json_response(views.run(_run(world, request), world.switches))


async def given_input(world: World, request: Request) -> Response:
    """GET /tasks/runs/{run_id}/input: the request that made the run, unchanged."""
    return json_response(_run(world, request).sent)


async def result(world: World, request: Request) -> Response:
    """GET /tasks/runs/{run_id}/result?timeout=: answered when the run has ended."""
    wanted, switches = read_query(RunQuery, request), world.switches
    run = world.parallel.runs.runs.get(request.path_params["run_id"])
    if run is not None:
        seconds = min(wanted.timeout, switches.parallel_result_timeout)
        if not await streams.ended(run, seconds, world.panel):
            raise Refusal(408, "Request timed out; run still active")
    found = output(run, switches) if run is not None else None
    if run is None or found is None:
        raise Refusal(404, "Run failed or run id not found")
    return json_response({"run": views.run(run, switches), "output": found})


async def events(world: World, request: Request) -> Response:
    """GET /tasks/runs/{run_id}/events: a stream of the run's states."""
    return streams.stream(streams.events_of_run(_run(world, request), world.panel))
