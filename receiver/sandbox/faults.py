"""Planned faults: which request each hits, and what it answers in place of the work."""

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.sandbox.clock import PlannedCall, SandboxClock
from receiver.sandbox.responses import Refusal, json_response
from receiver.sandbox.switches import Fault

CUT = "resultsink.sandbox.cut"
"""ASGI extension of the sandbox's server: its `abort` ends the connection of the request."""

_HTML = (
    b"<html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>\n"
)


class FaultPlan:
    """Faults in their order; the first that matches a request hits it."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(self, fault: Fault) -> None:
        """Add a fault at the end of the plan."""
        self._planned.append(_Planned(fault))

    def replace(self, faults: tuple[Fault, ...]) -> None:
        """Replace the whole plan."""
        self._planned = [_Planned(fault) for fault in faults]

    def take(self, method: str, path: str, query: str) -> Fault | None:
        """Return the fault that hits this request, if any, and count the hit."""
        for planned in self._planned:
            if planned.hits(method, path, query):
                return planned.fault
        return None

    def left(self) -> list[dict[str, Any]]:
        """Return the faults that can still hit, with what is left of their counts, as JSON."""
        return [
            {**planned.fault.model_dump(), "times": planned.times, "after": planned.after}
            for planned in self._planned
            if planned.times != 0
        ]


class _Planned:
    """A fault, and how many requests it still lets pass and still hits."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.times = fault.times
        self.after = fault.after
        target, _, query = fault.match.partition("?")
        self._target = _pattern(target, star="[^/]*")
        self._query = _pattern(query or "*", star=".*")

    def hits(self, method: str, path: str, query: str) -> bool:
        fits = self._target.fullmatch(f"{method} {path}") and self._query.fullmatch(query)
        if not fits or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


def _pattern(text: str, *, star: str) -> re.Pattern[str]:
    stars = {"**": ".*", "*": star}
    parts = re.split(r"(\*\*|\*)", text)
    return re.compile("".join(stars.get(part) or re.escape(part) for part in parts))


ErrorOf = Callable[[Refusal], dict[str, Any]]
"""Function that writes an error as the sender of this request does."""


def instead(fault: Fault, body_of: ErrorOf, clock: SandboxClock) -> Response | None:
    """Return the answer in place of the work, or None if the fault comes after the work."""
    match fault.kind:
        case "status":
            return _error(fault, body_of, clock)
        case "html":
            return Response(_HTML, fault.status or 502, media_type="text/html")
        case "hang":
            return Cut(clock, after=fault.seconds)
        case "reset":
            return Cut(clock)
        case "lost" | "slow" | "cut":
            return None


async def spoil(fault: Fault, good: Response, clock: SandboxClock) -> Response:
    """Return what the fault makes of a good answer."""
    match fault.kind:
        case "lost":
            return Cut(clock)
        case "cut":
            return Cut(clock, first=good)
        case _:
            await clock.sleep(fault.seconds)
            return good


def _error(fault: Fault, body_of: ErrorOf, clock: SandboxClock) -> Response:
    status = fault.status or 500
    wait = fault.retry_after if fault.retry_after is not None else 1 if status == 429 else None
    in_body = wait if fault.retry_after_in in ("body", "both") else None
    headers = {}
    if wait is not None and fault.retry_after_in in ("header", "both"):
        headers["Retry-After"] = str(wait)
    if wait is not None and fault.retry_after_in == "date":
        moment = clock.now() + timedelta(seconds=wait)
        headers["Retry-After"] = format_datetime(moment, usegmt=True)
    refusal = Refusal(status, fault.error, retry_after=in_body)
    return json_response(body_of(refusal), status, headers)


class Cut(Response):
    """Answer that cuts its connection: immediately, after a silence, or in the middle of a body."""

    def __init__(
        self, clock: SandboxClock, *, after: float = 0.0, first: Response | None = None
    ) -> None:
        super().__init__()
        self._clock = clock
        self._after = after
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._first is not None:
            await _send_half(self._first, send)
        cut: Callable[[], None] = scope["extensions"][CUT]["abort"]
        ended = asyncio.ensure_future(_disconnected(receive))
        timeout: PlannedCall | asyncio.Handle
        if self._after:
            timeout = self._clock.call_after(self._after, cut)
        else:
            # Not before the loop has sent what was written.
            timeout = asyncio.get_running_loop().call_soon(cut)
        try:
            await ended
        finally:
            timeout.cancel()
            ended.cancel()


async def _send_half(response: Response, send: Send) -> None:
    """Announce the whole body and send half of it; of a stream, half of its first piece."""
    body = await _ready(response)
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.raw_headers})
    half = body[: len(body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})


async def _ready(response: Response) -> bytes:
    if not isinstance(response, StreamingResponse):
        return bytes(response.body)
    async for piece in response.body_iterator:
        return piece.encode() if isinstance(piece, str) else bytes(piece)
    return b""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
