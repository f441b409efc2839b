"""Streams of server-sent events, and the ways in which they go wrong; contracts/parallel.md, 2.3.

The event id of a group's run is its place among those that have ended; the status of the group
has that of the last run before it, so that a stream is resumed at the same place behind either.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from receiver.sandbox.answers import Refusal, encode
from receiver.sandbox.faults import CUT
from receiver.sandbox.parallel import views as views
from receiver.sandbox.parallel.outputs import output
from receiver.sandbox.parallel.records import Group, Run
from receiver.sandbox.parallel.requests import EventsQuery, RunsQuery
from receiver.sandbox.switches import Switches

Event = dict[str, Any]

RUN_STREAM = 570.0
GROUP_STREAM = 3600.0

# Time for what was sent to leave, and then for the end of the connection to be noticed.
_SETTLING = 0.02


def stream(events: AsyncIterator[Event]) -> StreamingResponse:
    """An answer that sends events as they come."""
    return _streamed(_encoded(events))


def spoilt(events: AsyncIterator[Event], request: Request, switches: Switches) -> StreamingResponse:
    """The same, but it breaks off or sends an error where the switches say so."""
    return _streamed(_encoded(_breaking(events, request, switches)))


def _streamed(pieces: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"Cache-Control": "no-cache"}
    return StreamingResponse(pieces, media_type="text/event-stream", headers=headers)


async def _encoded(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in events:
        yield f"event: {event['type']}\ndata: ".encode() + encode(event) + b"\n\n"


async def _breaking(
    events: AsyncIterator[Event], request: Request, switches: Switches
) -> AsyncIterator[Event]:
    sent = 0
    async for event in events:
        if sent == switches.parallel_error_after:
            error = {"ref_id": str(uuid.uuid4()), "message": "Internal error in the stream"}
            yield {"type": "error", "error": error}
            return
        if sent == switches.parallel_drop_after:
            if not switches.parallel_drop_cleanly:
                await asyncio.sleep(_SETTLING)
                request.scope["extensions"][CUT]["abort"]()
                await asyncio.sleep(_SETTLING)
            return
        yield event
        sent += 1


def place_of(last_event_id: str | None, group: Group, switches: Switches) -> int:
    """How many of a group's ended runs a client has seen; a 422 for an id that is not ours."""
    if not last_event_id:
        return 0
    known = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10
    if not known or int(last_event_id) > len(group.ended) or switches.parallel_refuse_cursors:
        raise Refusal(422, "Invalid last_event_id", detail={"last_event_id": last_event_id})
    return int(last_event_id)


async def runs_of(
    group: Group, query: RunsQuery, place: int, switches: Switches
) -> AsyncIterator[Event]:
    """The runs that have ended, as they are now; it waits for no others."""
    ended = group.ended[place:]
    active = [run for run in group.runs if run.is_active] if switches.parallel_stream_active else []
    numbered = list(enumerate(ended, place + 1)) + [(place + len(ended), run) for run in active]
    for number, run in numbered:
        if query.status in (None, run.status):
            yield _run_event(run, str(number), query, switches)


async def events_of(
    group: Group, query: EventsQuery, place: int, switches: Switches
) -> AsyncIterator[Event]:
    """Runs as they end, each followed by the group's status, until no run is active."""
    until = _moment(min(query.timeout, GROUP_STREAM), switches)
    told: tuple[int, int] | None = None
    while True:
        changed = group.changed
        for run in group.ended[place:]:
            place += 1
            yield _run_event(run, str(place), RunsQuery(), switches)
        status = views.group_status(group, switches)
        if told != (place, len(group.runs)):
            told = place, len(group.runs)
            yield {"type": "task_group_status", "event_id": str(place), "status": status}
        if place < len(group.ended):
            continue
        if not status["is_active"] or not await _comes(changed, until):
            return


async def events_of_run(run: Run, switches: Switches) -> AsyncIterator[Event]:
    """The first and the last state of a run, the last with its output; from the start each time."""
    going = run.is_active
    yield _run_event(run, None, RunsQuery(include_output=True), switches)
    if going and await ended(run, RUN_STREAM, switches):
        yield _run_event(run, None, RunsQuery(include_output=True), switches)


def _run_event(
    run: Run, event_id: str | None, query: RunsQuery, switches: Switches
) -> dict[str, Any]:
    wanted = query.include_output and not (event_id and _is_late(run, switches))
    return {
        "type": "task_run.state",
        "event_id": event_id,
        "input": views.sent(run) if query.include_input else None,
        "run": views.run(run, switches),
        "output": output(run, switches) if wanted else None,
    }


def _is_late(run: Run, switches: Switches) -> bool:
    if not run.late or switches.parallel_late_for is None:
        return run.late
    age = time.time() - run.modified_at.timestamp()
    return age * switches.speed < switches.parallel_late_for


async def ended(run: Run, seconds: float, switches: Switches) -> bool:
    """Waits for a run's end; False if it does not come within those seconds."""
    until = _moment(seconds, switches)
    while run.is_active:
        if not await _comes(run.changed, until):
            return False
    return True


def _moment(seconds: float, switches: Switches) -> float:
    return asyncio.get_running_loop().time() + seconds / switches.speed


async def _comes(changed: asyncio.Event, until: float) -> bool:
    """Waits for a change; False if it does not come in time."""
    try:
        async with asyncio.timeout_at(until):
            await changed.wait()
    except TimeoutError:
        return False
    return True
