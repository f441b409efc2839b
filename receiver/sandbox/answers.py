"""The answers of the API: flat JSON, and errors in the shapes the contract shows."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.switches import Switches

USUAL_ERRORS = {
    400: "Invalid request parameters",
    401: "Invalid API key",
    402: "Insufficient credits",
    403: "API key lacks permission",
    404: "Task not found",
    405: "Method not allowed",
    429: "rate_limited",
    500: "Internal server error. Please try again later.",
}


class Refusal(Exception):
    """Ends the handling of a request with an error status and the text for it.

    `retry_after` are seconds named in the body, where the sender does that; `detail` says more.
    """

    def __init__(
        self,
        status: int,
        error: str | None = None,
        *,
        retry_after: int | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.error = error or usual_error(status)
        self.retry_after = retry_after
        self.detail = detail
        super().__init__(self.error)


def usual_error(status: int) -> str:
    """The text that goes with a status when nobody gave another."""
    return USUAL_ERRORS.get(status, f"HTTP Error: {status}")


def encode(value: Any) -> bytes:
    """JSON as the sender writes it: compact, in UTF-8, keys in the order they were given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(encode(value), status, headers, media_type="application/json")


# How a sender writes an error, as the switches have it.
ErrorBody = Callable[[Refusal, Switches], dict[str, Any]]


def error_body(refusal: Refusal, switches: Switches) -> dict[str, Any]:
    """An error as Valyu writes it; `error` is readable, for the SDK shows nothing else."""
    body: dict[str, Any] = {"success": False, "error": refusal.error}
    if refusal.status == 429:
        body = {"error": refusal.error, "message": "Too many requests"}
    return body if refusal.retry_after is None else {**body, "retry_after": refusal.retry_after}


def as_refusal(error: Exception) -> Refusal:
    """A Refusal as it is, and starlette's own 404 and 405 as one."""
    if isinstance(error, Refusal):
        return error
    status = error.status_code if isinstance(error, HTTPException) else 500
    return Refusal(status, "Not found" if status == 404 else None)


async def json_body(request: Request) -> dict[str, Any]:
    """The request's JSON object; a 400 for anything else."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise Refusal(400, "The body is not JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object")
    return body


def success(value: dict[str, Any], switches: Switches) -> dict[str, Any]:
    """The object as it is, or marked as a success where the sender does that."""
    return {"success": True, **value} if switches.success_flag else value
