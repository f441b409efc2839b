"""Signed deliveries, made ahead of the clock.

What Valyu sends when a batch ends: the Batch object in 1 kB of JSON, signed as
`sha256=` + HMAC-SHA256(secret text, timestamp + "." + body). Each delivery is another event: the
batch is the same, `completed_at` is one millisecond later. It is the last field, so that all
deliveries of one call share the HMAC state up to it and signing costs a few microseconds.
"""

import json
import time
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

SECRET = "7c" * 32
RESOURCE = "batch_bench"
BODY_BYTES = 1024
ENDED = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


class Sender:
    """Makes deliveries for one URL path; no two are the same event."""

    def __init__(self, path: str, *, secret: str = SECRET, resource: str = RESOURCE) -> None:
        self.path = path
        self.made = 0
        self._secret = secret.encode()
        self._opening = _opening(resource)

    def requests(self, count: int) -> list[bytes]:
        """Give the next `count` deliveries as the bytes of whole HTTP requests."""
        stamp = str(int(time.time())).encode()
        signed = HMAC(self._secret, SHA256())
        signed.update(stamp + b"." + self._opening)
        head = self._head(stamp)
        first, self.made = self.made, self.made + count
        return [self._request(number, signed.copy(), head) for number in range(first, self.made)]

    def _head(self, stamp: bytes) -> bytes:
        return (
            b"POST " + self.path.encode() + b" HTTP/1.1\r\n"
            b"Host: hooks.example.com\r\n"
            b"User-Agent: valyu-webhooks/1.0\r\n"
            b"Accept: */*\r\n"
            b"Content-Type: application/json\r\n"
            b"Content-Length: " + str(BODY_BYTES).encode() + b"\r\n"
            b"X-Webhook-Timestamp: " + stamp + b"\r\n"
            b"X-Webhook-Signature: sha256="
        )

    def _request(self, number: int, signed: HMAC, head: bytes) -> bytes:
        ended = (ENDED + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
        ending = ended.removesuffix("+00:00").encode() + b'Z"}'
        signed.update(ending)
        signature = signed.finalize().hex().encode()
        return head + signature + b"\r\n\r\n" + self._opening + ending


def _opening(resource: str) -> bytes:
    """Give the body up to the value of `completed_at`, padded so that the whole is 1 kB."""
    batch = {
        "batch_id": resource,
        "mode": "fast",
        "name": "Grid storage watch",
        "output_formats": ["markdown"],
        "search_params": {"search_type": "all"},
        "status": "completed",
        "counts": {
            "total": 100,
            "queued": 0,
            "running": 0,
            "completed": 100,
            "failed": 0,
            "cancelled": 0,
        },
        "cost": 15.625,
        "webhook_url": "https://hooks.example.com/webhooks/valyu/bench",
        "created_at": "2026-10-05T08:00:00.000Z",
        "metadata": {"note": ""},
        "completed_at": "2026-10-05T09:00:00.000Z",
    }
    missing = BODY_BYTES - len(_compact(batch))
    batch["metadata"] = {"note": "x" * missing}
    return _compact(batch).removesuffix(b'2026-10-05T09:00:00.000Z"}')


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
