"""Signed deliveries, made ahead of the clock.

What Valyu sends when a batch ends: the Batch object in 1 kB of JSON, signed as
`sha256=` + HMAC-SHA256(secret text, timestamp + "." + body). Each delivery is another event: the
batch is the same, `completed_at` is one millisecond later. It is the last field, so that all
deliveries of one call share the HMAC state up to it and signing costs a few microseconds.
"""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

SECRET = "7c" * 32
RESOURCE = "batch_bench"
BODY_BYTES = 1024
ENDED = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


class Sender:
    """Makes deliveries for one URL path; no two are the same event.

    `first` numbers the first one: two senders for one store must not make the same ones.
    """

    def __init__(self, path: str, *, first: int = 0) -> None:
        self.path = path
        self.made = first
        self._secret = SECRET.encode()
        self._opening = _opening(RESOURCE)

    def requests(self, count: int) -> list[bytes]:
        """Give the next `count` deliveries as the bytes of whole HTTP requests."""
        stamp = str(int(time.time())).encode()
        signed = HMAC(self._secret, SHA256())
        signed.update(stamp + b"." + self._opening)
        head = self._head(stamp)
        first, self.made = self.made, self.made + count
        return [self._request(number, signed.copy(), head) for number in range(first, self.made)]

    def _request(self, number: int, signed: HMAC, head: bytes) -> bytes:
        ending = _moment(number) + b'Z"}'
        signed.update(ending)
        signature = signed.finalize().hex().encode()
        return head + signature + b"\r\n\r\n" + self._opening + ending

    def _head(self, stamp: bytes) -> bytes:
        return _head(self.path, stamp, BODY_BYTES)


def run_requests(path: str, run_ids: Iterable[str]) -> list[bytes]:
    """Announce the ends of single runs, each by the bytes of a whole HTTP request."""
    stamp = str(int(time.time())).encode()
    requests = []
    for number, run_id in enumerate(run_ids):
        announced = {
            "deepresearch_id": run_id,
            "status": "completed",
            "query": "Grid storage watch",
            "mode": "fast",
            "completed_at": _moment(number).decode() + "Z",
        }
        body = _compact(announced)
        signed = HMAC(SECRET.encode(), SHA256())
        signed.update(stamp + b"." + body)
        signature = signed.finalize().hex().encode()
        requests.append(_head(path, stamp, len(body)) + signature + b"\r\n\r\n" + body)
    return requests


def _head(path: str, stamp: bytes, length: int) -> bytes:
    return (
        b"POST " + path.encode() + b" HTTP/1.1\r\n"
        b"Host: hooks.example.com\r\n"
        b"User-Agent: valyu-webhooks/1.0\r\n"
        b"Accept: */*\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: " + str(length).encode() + b"\r\n"
        b"X-Webhook-Timestamp: " + stamp + b"\r\n"
        b"X-Webhook-Signature: sha256="
    )


def _moment(number: int) -> bytes:
    ended = (ENDED + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
    return ended.removesuffix("+00:00").encode()


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
