"""Endpoints of groups; contracts/parallel.md, section 2.3."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.parallel import requests as bodies
from receiver.sandbox.parallel import streams, views
from receiver.sandbox.parallel.records import ParallelGroup, ShownStatus
from receiver.sandbox.responses import Refusal, json_response
from receiver.sandbox.world import World


def _group(world: World, request: Request) -> ParallelGroup:
    return world.parallel.runs.group(request.path_params["group_id"])


def _status(group: ParallelGroup, world: World, *, most_age: float = 0.0) -> dict[str, Any]:
    """Return the status last shown if it is recent enough, else the present one."""
    now, last = world.clock.seconds(), group.last_shown
    if last is not None and (now - last.at) * world.switches.speed < most_age:
        return last.status
    group.last_shown = ShownStatus(now, views.group_status(group, world.switches))
    return group.last_shown.status


async def create(world: World, request: Request) -> Response:
    """POST /tasks/groups."""
    wanted = bodies.read(bodies.CreateGroup, await bodies.json_of(request))
    bodies.check_metadata(wanted.metadata, world.switches)
    group = world.parallel.runs.create_group(wanted.metadata)
    return json_response(views.group(group, _status(group, world)))


async def status(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}."""
    group = _group(world, request)
    shown = _status(group, world, most_age=world.switches.parallel_stale_status)
    return json_response(views.group(group, shown))


async def add_runs(world: World, request: Request) -> Response:
    """POST /tasks/groups/{group_id}/runs: adds a run for each input, or none at all."""
    group, sent = _group(world, request), await bodies.json_of(request)
    query = bodies.read_query(bodies.AddRunsQuery, request)
    body = bodies.read(bodies.AddRuns, sent)
    wanted = [(bodies.read(bodies.CreateParallelRun, each), each) for each in body.inputs]
    for each, _ in wanted:
        bodies.check_run(each, request, world.switches)
    cursor = str(len(group.ended)) if group.runs else ""
    runs = world.parallel.runs.add_runs(group, wanted, body.default_task_spec)
    shown = {
        "status": _status(group, world, most_age=0.0 if query.refresh_status else float("inf")),
        "run_ids": [run.run_id for run in runs],
        "run_cursor": cursor,
        "event_cursor": cursor,
    }
    world.parallel.runs.start(runs)
    return json_response(shown)


async def list_runs(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}/runs: a stream of the runs that have ended."""
    group, switches = _group(world, request), world.switches
    query = bodies.read_query(bodies.RunsQuery, request)
    place = streams.place_of(query.last_event_id, group, switches)
    return streams.breaking(streams.runs_of(group, query, place, world.panel), request, switches)


async def events(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}/events: a stream that stays open while a run is active."""
    group, switches = _group(world, request), world.switches
    query = bodies.read_query(bodies.EventsQuery, request)
    place = streams.place_of(query.last_event_id, group, switches)
    return streams.breaking(streams.events_of(group, query, place, world.panel), request, switches)


async def run(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}/runs/{run_id}."""
    group = _group(world, request)
    found = world.parallel.runs.run(request.path_params["run_id"])
    if found.group is not group:
        raise Refusal(404, "Run not found")
    return json_response(views.run(found, world.switches))
