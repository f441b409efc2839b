"""HTTP in: the webhook route, and whether we are alive and ready. No logic.

The webhook route is a plain ASGI callable, for what a request costs here bounds the intake. This
is the one table of statuses that a sender sees.
"""

import json
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from receiver.intake.intake import INLINE_BYTES, Intake, Outcome, Target
from receiver.intake.request_body import Bodies, BodyRefused, ClientGone

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
Answer = Callable[[int, HttpHeaders, bytes], None]
"""Sends a whole response: status, headers and body."""


async def webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """POST /webhooks/{source}[/{endpoint}]; works with the lifespan's `intake` and `bodies`."""
    if scope["method"] != "POST":
        await _answer(send, Outcome("method"), close=True)
        return
    intake: Intake = scope["state"]["intake"]
    bodies: Bodies = scope["state"]["bodies"]
    door = await intake.find(*_names(scope))
    if isinstance(door, Outcome):
        await _answer(send, door, close=True)
        return
    try:
        body = await _read(bodies, door, scope["headers"], receive)
    except BodyRefused as refusal:
        await _answer(send, _refused(refusal), close=True)
        return
    except ClientGone:
        return
    try:
        reply = await intake.take(door, scope["headers"], body)
    finally:
        bodies.release(body)
    await _answer(send, reply)


def webhook_at_once(scope: Scope, body: bytes, answer: Answer) -> bool:
    """The same for a request that has come whole, without the task that `webhook` runs in.

    True where the request is taken: `answer` is then called once. All that is out of the ordinary
    is left to `webhook`: whatever must wait for more than the commit, or is refused unread.
    """
    state, headers = scope["state"], scope["headers"]
    intake: Intake = state["intake"]
    bodies: Bodies = state["bodies"]
    if scope["method"] != "POST" or b"content-encoding" in dict(headers):
        return False
    door = intake.find_at_once(*_names(scope))
    if not isinstance(door, Target) or door.is_looked_up or len(body) > INLINE_BYTES:
        return False
    if not bodies.hold(body, limit=door.source.settings.max_body_bytes):
        return False

    def reply(reply: Outcome) -> None:
        bodies.release(body)
        answer(STATUSES[reply.outcome], *_response(reply))

    intake.take_at_once(door, headers, body, reply)
    return True


def _names(scope: Scope) -> tuple[str, str | None]:
    """The source's name and the endpoint's id in a URL."""
    source, _, endpoint = scope["path"][len(WEBHOOKS) :].partition("/")
    return source, endpoint or None


async def _read(bodies: Bodies, door: Target, headers: HttpHeaders, receive: Receive) -> bytes:
    declared = None
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            declared = int(value[:18])  # more digits are too large all the same
        elif name == b"content-encoding" and value.strip().lower() not in _IDENTITY:
            raise BodyRefused("encoding")
    limit = door.source.settings.max_body_bytes
    return await bodies.read(receive, limit=limit, declared=declared)


def _refused(refusal: BodyRefused) -> Outcome:
    outcome = str(refusal)
    return Outcome(outcome, OVERLOADED_RETRY_AFTER if outcome == "overloaded" else None)


async def _answer(send: Send, reply: Outcome, *, close: bool = False) -> None:
    """Send the reply; `close` where part of the request may still be unread."""
    headers, body = _response(reply)
    if close:
        headers = [*headers, (b"connection", b"close")]
    status = STATUSES[reply.outcome]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _response(reply: Outcome) -> tuple[HttpHeaders, bytes]:
    headers, body = _PREPARED[reply.outcome]
    if reply.retry_after is not None:
        headers = [*headers, (b"retry-after", b"%d" % reply.retry_after)]
    if reply.outcome == "method":
        headers = [*headers, (b"allow", b"POST")]
    return headers, body


def _prepared(outcome: str) -> tuple[HttpHeaders, bytes]:
    good = STATUSES[outcome] == 200
    body = json.dumps({"status" if good else "error": outcome}).encode()
    length = str(len(body)).encode()
    return [(b"content-type", b"application/json"), (b"content-length", length)], body


_PREPARED = {outcome: _prepared(outcome) for outcome in STATUSES}
