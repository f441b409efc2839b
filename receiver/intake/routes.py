"""The webhook route: from HTTP to an outcome, and from an outcome to HTTP. No logic.

Plain ASGI, because the cost of a request here bounds the intake. STATUSES is the one table of
statuses that a sender sees.
"""

import json
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from receiver.intake.intake import INLINE_BYTES, Intake
from receiver.intake.request_body import Bodies, BodyRefused, ClientGone
from receiver.intake.target import NOT_STORED, Outcome, Target

STATUSES = {
    "accepted": 200,
    "duplicate": 200,
    "not found": 404,
    "unauthorized": 401,
    "method": 405,
    "timeout": 408,
    "too large": 413,
    "encoding": 415,
    "overloaded": 503,
    "unavailable": 503,
}
"""Every outcome of a webhook request, and the status that the sender sees."""

OVERLOADED_RETRY_AFTER = 5

WEBHOOKS = "/webhooks/"

_IDENTITY = (b"", b"identity")

HttpHeaders = list[tuple[bytes, bytes]]
Respond = Callable[[int, HttpHeaders, bytes], None]
"""Sends a whole response: status, headers and body."""


async def webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """POST /webhooks/{source}[/{endpoint}]; uses the lifespan's `intake` and `bodies`."""
    if scope["method"] != "POST":
        await _send(send, Outcome("method"), close=True)
        return
    intake: Intake = scope["state"]["intake"]
    bodies: Bodies = scope["state"]["bodies"]
    target = await intake.find_or_read(*_names(scope))
    if isinstance(target, Outcome):
        await _send(send, target, close=True)
        return
    try:
        body = await _read(bodies, target, scope["headers"], receive)
    except BodyRefused as refusal:
        await _send(send, _refused(refusal), close=True)
        return
    except ClientGone:
        return
    try:
        outcome = await intake.take_and_wait(target, scope["headers"], body)
    finally:
        bodies.release(body)
    await _send(send, outcome)


def fast_path(scope: Scope, body: bytes, respond: Respond) -> bool:
    """Take a request that has come whole, without a task; call `respond` once, after the COMMIT.

    Returns False, having done nothing, for every request that is out of the ordinary: `webhook`
    then waits for what it needs (a read of the store, a thread), or refuses it unread.
    """
    state, headers = scope["state"], scope["headers"]
    intake: Intake = state["intake"]
    bodies: Bodies = state["bodies"]
    if scope["method"] != "POST" or b"content-encoding" in dict(headers):
        return False
    target = intake.find(*_names(scope))
    if not isinstance(target, Target) or target.needs_look_up or len(body) > INLINE_BYTES:
        return False
    if not bodies.hold(body, limit=target.source.settings.max_body_bytes):
        return False

    def answer(outcome: Outcome) -> None:
        bodies.release(body)
        respond(*_response(outcome))

    intake.take(target, headers, body, answer)
    return True


async def unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 in a process that takes nothing in: the sender tries again elsewhere."""
    del receive
    outcome = NOT_STORED if scope["method"] == "POST" else Outcome("method")
    await _send(send, outcome, close=True)


def _names(scope: Scope) -> tuple[str, str | None]:
    """Return the source's name and the endpoint's id in a URL."""
    source, _, endpoint = scope["path"][len(WEBHOOKS) :].partition("/")
    return source, endpoint or None


async def _read(bodies: Bodies, target: Target, headers: HttpHeaders, receive: Receive) -> bytes:
    declared = None
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            declared = int(value[:18])  # more digits are too large all the same
        elif name == b"content-encoding" and value.strip().lower() not in _IDENTITY:
            raise BodyRefused("encoding")
    limit = target.source.settings.max_body_bytes
    return await bodies.read(receive, limit=limit, declared=declared)


def _refused(refusal: BodyRefused) -> Outcome:
    outcome = str(refusal)
    return Outcome(outcome, OVERLOADED_RETRY_AFTER if outcome == "overloaded" else None)


async def _send(send: Send, outcome: Outcome, *, close: bool = False) -> None:
    """Send the response; `close` where part of the request may still be unread."""
    status, headers, body = _response(outcome)
    if close:
        headers = [*headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _response(outcome: Outcome) -> tuple[int, HttpHeaders, bytes]:
    status, headers, body = _RESPONSES[outcome.outcome]
    if outcome.retry_after is not None:
        headers = [*headers, (b"retry-after", b"%d" % outcome.retry_after)]
    if outcome.outcome == "method":
        headers = [*headers, (b"allow", b"POST")]
    return status, headers, body


def _response_for(outcome: str, status: int) -> tuple[int, HttpHeaders, bytes]:
    body = json.dumps({"status" if status == 200 else "error": outcome}).encode()
    length = str(len(body)).encode()
    return status, [(b"content-type", b"application/json"), (b"content-length", length)], body


_RESPONSES = {outcome: _response_for(outcome, status) for outcome, status in STATUSES.items()}
