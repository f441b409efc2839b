"""What programs are told: JSON, and problem details (RFC 9457) where it is no success."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from receiver.errors import ReceiverError

RETRY_AFTER = {"retry-after": "5"}
CLOSE = {"connection": "close"}
"""For answers before the body was read: what follows on the connection is no request."""

_NOT_KEPT = {"cache-control": "no-store"}


class Problem(ReceiverError):
    """Refuses a program's request; the text is one sentence that says what to do."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The same as an answer."""
        told = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
        }
        return answer(
            told, self.status, headers=self.headers, media_type="application/problem+json"
        )


def answer(
    value: Any,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """A JSON document."""
    body = json.dumps(value, default=plain, allow_nan=False)
    return Response(body, status, headers={**_NOT_KEPT, **(headers or {})}, media_type=media_type)


def plain(value: Any) -> Any:
    """A time as JSON has it, for `json.dumps`."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is no JSON")
