"""The endpoints of groups; contracts/parallel.md, section 2.3."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.answers import Refusal, answer
from receiver.sandbox.parallel import requests as bodies
from receiver.sandbox.parallel import streams as streams
from receiver.sandbox.parallel import views as views
from receiver.sandbox.parallel.records import Group
from receiver.sandbox.world import World


def _group(world: World, request: Request) -> Group:
    return world.parallel.runs.group(request.path_params["group_id"])


def _status(group: Group, world: World, *, most_age: float = 0.0) -> dict[str, Any]:
    """The status of a group as it stands, or as it was answered not too long ago."""
    now = time.monotonic()
    if group.shown is not None and (now - group.shown[0]) * world.switches.speed < most_age:
        return group.shown[1]
    shown = views.group_status(group, world.switches)
    group.shown = now, shown
    return shown


async def create(world: World, request: Request) -> Response:
    """POST /tasks/groups."""
    wanted = bodies.read(bodies.CreateGroup, await bodies.json_of(request))
    bodies.check_metadata(wanted.metadata, world.switches)
    group = world.parallel.runs.create_group(wanted.metadata)
    return answer(views.group(group, _status(group, world)))


async def status(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}."""
    group = _group(world, request)
    shown = _status(group, world, most_age=world.switches.parallel_stale_status)
    return answer(views.group(group, shown))


async def add_runs(world: World, request: Request) -> Response:
    """POST /tasks/groups/{group_id}/runs: all of the inputs or none."""
    group, sent = _group(world, request), await bodies.json_of(request)
    query = bodies.read_query(bodies.AddRunsQuery, request)
    body = bodies.read(bodies.AddRuns, sent)
    wanted = [(bodies.read(bodies.CreateRun, each), each) for each in body.inputs]
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
    return answer(shown)


async def list_runs(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}/runs: a stream that waits for nothing."""
    group, switches = _group(world, request), world.switches
    query = bodies.read_query(bodies.RunsQuery, request)
    place = streams.place_of(query.last_event_id, group, switches)
    return streams.spoilt(streams.runs_of(group, query, place, switches), request, switches)


async def events(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}/events: a stream that is open while a run is active."""
    group, switches = _group(world, request), world.switches
    query = bodies.read_query(bodies.EventsQuery, request)
    place = streams.place_of(query.last_event_id, group, switches)
    return streams.spoilt(streams.events_of(group, query, place, switches), request, switches)


async def run(world: World, request: Request) -> Response:
    """GET /tasks/groups/{group_id}/runs/{run_id}."""
    group = _group(world, request)
    found = world.parallel.runs.run(request.path_params["run_id"])
    if found.group is not group:
        raise Refusal(404, "Run not found")
    return answer(views.run(found, world.switches))
