"""Responses: JSON, and problem details (RFC 9457) where something is refused."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from receiver.errors import ReceiverError
from receiver.json_values import time_as_json

RETRY_AFTER = {"retry-after": "5"}
CLOSE = {"connection": "close"}
"""For answers before the body was read: the rest of it must not be taken for a request."""

_NO_STORE = {"cache-control": "no-store"}


class Problem(ReceiverError):
    """Refuses a program's request; the text is one sentence that says what to do."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the refusal as a response."""
        details = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
        }
        return answer(
            details, self.status, headers=self.headers, media_type="application/problem+json"
        )


def answer(
    value: object,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """Return a response with a JSON document."""
    body = json.dumps(value, default=time_as_json, allow_nan=False)
    return Response(body, status, headers={**_NO_STORE, **(headers or {})}, media_type=media_type)
