"""Planned faults: which request is hit, and what an answer looks like that is none."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.sandbox.answers import Refusal, answer
from receiver.sandbox.switches import Fault

# The ASGI extension with which our server lets an answer cut its connection.
CUT = "resultsink.sandbox.cut"

_HTML = (
    b"<html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>\n"
)


class FaultPlan:
    """The faults still to come, in order; the first that matches a request is taken."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(self, fault: Fault) -> None:
        """Appends a fault to the plan."""
        self._planned.append(_Planned(fault))

    def replace(self, faults: tuple[Fault, ...]) -> None:
        """Forgets the plan and makes another."""
        self._planned = [_Planned(fault) for fault in faults]

    def take(self, method: str, path: str, query: str) -> Fault | None:
        """The fault that hits this request, if any; it is used up a little by that."""
        for planned in self._planned:
            if planned.hits(method, path, query):
                return planned.fault
        return None

    def left(self) -> list[dict[str, Any]]:
        """The faults that can still hit, and how often."""
        return [
            {**planned.fault.model_dump(), "times": planned.times, "after": planned.after}
            for planned in self._planned
            if planned.times != 0
        ]


class _Planned:
    """A fault with what is left of it."""

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


def instead(fault: Fault, body_of: Callable[[Refusal], dict[str, Any]]) -> Response | None:
    """What is answered in place of the work; None where the work is done first.

    `body_of` writes an error as the sender does whose request it was.
    """
    match fault.kind:
        case "status":
            return _error(fault, body_of)
        case "html":
            return Response(_HTML, fault.status or 502, media_type="text/html")
        case "hang":
            return Cut(after=fault.seconds)
        case "reset":
            return Cut()
        case "lost" | "slow" | "cut":
            return None


async def spoil(fault: Fault, good: Response) -> Response:
    """What becomes of the answer to work that was done."""
    match fault.kind:
        case "lost":
            return Cut()
        case "cut":
            return Cut(first=good)
        case _:
            await asyncio.sleep(fault.seconds)
            return good


def _error(fault: Fault, body_of: Callable[[Refusal], dict[str, Any]]) -> Response:
    status = fault.status or 500
    wait = fault.retry_after if fault.retry_after is not None else 1 if status == 429 else None
    in_body = wait if fault.retry_after_in in ("body", "both") else None
    headers = {}
    if wait is not None and fault.retry_after_in in ("header", "both"):
        headers["Retry-After"] = str(wait)
    if wait is not None and fault.retry_after_in == "date":
        moment = datetime.now(UTC) + timedelta(seconds=wait)
        headers["Retry-After"] = format_datetime(moment, usegmt=True)
    return answer(body_of(Refusal(status, fault.error, retry_after=in_body)), status, headers)


class Cut(Response):
    """Cuts the connection: at once, after a silence, or in the middle of a body."""

    def __init__(self, *, after: float = 0.0, first: Response | None = None) -> None:
        super().__init__()
        self._after = after
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._first is not None:
            await _send_half(self._first, send)
        cut: Callable[[], None] = scope["extensions"][CUT]["abort"]
        try:
            async with asyncio.timeout(self._after):
                await _disconnected(receive)
        except TimeoutError:
            cut()
            await _disconnected(receive)


async def _send_half(response: Response, send: Send) -> None:
    """Promises the whole body and sends half of it; of a stream, half of its first piece."""
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
