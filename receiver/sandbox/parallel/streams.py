"""Streams of server-sent events, and their faults; contracts/parallel.md, 2.3.

The event id of a group's run is its place among those that have ended. The status of the group has
the id of the last run before it, so that a client resumes a stream at the same place after either.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from receiver.sandbox.faults import CUT
from receiver.sandbox.parallel import views
from receiver.sandbox.parallel.outputs import output
from receiver.sandbox.parallel.records import ParallelGroup, ParallelRun
from receiver.sandbox.parallel.requests import EventsQuery, RunsQuery
from receiver.sandbox.responses import Refusal, encode
from receiver.sandbox.switches import Panel, Switches

Event = dict[str, Any]

RUN_STREAM_SECONDS = 570.0
GROUP_STREAM_SECONDS = 3600.0

# Time for the kernel to send what was written, and then for the end of the connection to arrive.
_SETTLING = 0.02


def stream(events: AsyncIterator[Event]) -> StreamingResponse:
    """Return an answer that sends events as they come."""
    return _streamed(_encoded(events))


def breaking(
    events: AsyncIterator[Event], request: Request, switches: Switches
) -> StreamingResponse:
    """Return an answer that sends events, and breaks off or sends an error as the switches say."""
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


def place_of(last_event_id: str | None, group: ParallelGroup, switches: Switches) -> int:
    """Return how many of the ended runs a client has seen; an id that is not ours is a 422."""
    if not last_event_id:
        return 0
    known = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10
    if not known or int(last_event_id) > len(group.ended) or switches.parallel_refuse_cursors:
        raise Refusal(422, "Invalid last_event_id", detail={"last_event_id": last_event_id})
    return int(last_event_id)


async def runs_of(
    group: ParallelGroup, query: RunsQuery, place: int, panel: Panel
) -> AsyncIterator[Event]:
    """Yield the runs that have ended by now, and the active ones if the switches say so."""
    ended, active = group.ended[place:], []
    if panel.switches.parallel_stream_active:
        active = [run for run in group.runs if run.is_active]
    numbered = list(enumerate(ended, place + 1)) + [(place + len(ended), run) for run in active]
    for number, run in numbered:
        if query.status in (None, run.status):
            yield _run_event(run, str(number), query, panel)


async def events_of(
    group: ParallelGroup, query: EventsQuery, place: int, panel: Panel
) -> AsyncIterator[Event]:
    """Yield each run as it ends, followed by the group's status, until no run is active."""
    until = _end_of(min(query.timeout, GROUP_STREAM_SECONDS), panel)
    shown: tuple[int, int] | None = None
    while True:
        changed = group.changed
        for run in group.ended[place:]:
            place += 1
            yield _run_event(run, str(place), RunsQuery(), panel)
        status = views.group_status(group, panel.switches)
        if shown != (place, len(group.runs)):
            shown = place, len(group.runs)
            yield {"type": "task_group_status", "event_id": str(place), "status": status}
        if place < len(group.ended):
            continue
        if not status["is_active"] or not await panel.clock.wait_for(changed, until=until):
            return


async def events_of_run(run: ParallelRun, panel: Panel) -> AsyncIterator[Event]:
    """Yield the present state of a run, and its last one with its output once it has ended."""
    was_active = run.is_active
    yield _run_event(run, None, RunsQuery(include_output=True), panel)
    if was_active and await ended(run, RUN_STREAM_SECONDS, panel):
        yield _run_event(run, None, RunsQuery(include_output=True), panel)


def _run_event(run: ParallelRun, event_id: str | None, query: RunsQuery, panel: Panel) -> Event:
    wanted = query.include_output and not (event_id and _is_late(run, panel))
    return {
        "type": "task_run.state",
        "event_id": event_id,
        "input": views.sent(run) if query.include_input else None,
        "run": views.run(run, panel.switches),
        "output": output(run, panel.switches) if wanted else None,
    }


def _is_late(run: ParallelRun, panel: Panel) -> bool:
    switches = panel.switches
    if not run.late or switches.parallel_late_for is None:
        return run.late
    age = panel.clock.time() - run.modified_at.timestamp()
    return age * switches.speed < switches.parallel_late_for


async def ended(run: ParallelRun, seconds: float, panel: Panel) -> bool:
    """Wait for the end of a run; return False if it does not end within those seconds."""
    until = _end_of(seconds, panel)
    while run.is_active:
        if not await panel.clock.wait_for(run.changed, until=until):
            return False
    return True


def _end_of(seconds: float, panel: Panel) -> float:
    return panel.clock.seconds() + seconds / panel.switches.speed
