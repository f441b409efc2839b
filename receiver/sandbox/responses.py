"""Answers of the APIs: flat JSON, and errors in the shapes that the contracts show."""

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
    """Ends a request with an error status and its text.

    `retry_after` is the wait in seconds that the body names, where the sender's bodies do so;
    `detail` is more of the error in JSON.
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
    """Return the text of a status for which no other text is given."""
    return USUAL_ERRORS.get(status, f"HTTP Error: {status}")


def encode(value: Any) -> bytes:
    """Return compact JSON in UTF-8, with the keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON answer."""
    return Response(encode(value), status, headers, media_type="application/json")


ErrorBody = Callable[[Refusal, Switches], dict[str, Any]]
"""Function that writes an error in one sender's JSON."""


def error_body(refusal: Refusal, switches: Switches) -> dict[str, Any]:
    """Return an error in Valyu's JSON; Valyu's SDK shows nothing but `error`."""
    body: dict[str, Any] = {"success": False, "error": refusal.error}
    if refusal.status == 429:
        body = {"error": refusal.error, "message": "Too many requests"}
    return body if refusal.retry_after is None else {**body, "retry_after": refusal.retry_after}


def as_refusal(error: Exception) -> Refusal:
    """Turn starlette's own 404 and 405 into a Refusal, and leave a Refusal unchanged."""
    if isinstance(error, Refusal):
        return error
    status = error.status_code if isinstance(error, HTTPException) else 500
    return Refusal(status, "Not found" if status == 404 else None)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the request's JSON object; anything else is a 400."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise Refusal(400, "The body is not JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object")
    return body


def success(value: dict[str, Any], switches: Switches) -> dict[str, Any]:
    """Add `success: true` to an object if the switches say so."""
    return {"success": True, **value} if switches.success_flag else value


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
