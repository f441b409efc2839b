"""Senders: signed deliveries, no two of them the same event, and one try at sending one."""

import hashlib
import itertools
import json
import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPConnection

from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu.signing import headers

ANSWER_LIMIT = 30.0
"""The longest time that a sender waits; without an answer by then it was left hanging."""


@dataclass(frozen=True)
class Endpoint:
    """A target of deliveries: the URL's path, its secret, and the batch that it is for."""

    path: str
    secret: str
    resource: str


@dataclass(frozen=True)
class Delivery:
    """One event of one endpoint; every try of it sends the same bytes."""

    endpoint: Endpoint
    body: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def signed(self) -> dict[str, str]:
        return headers(Switches(), self.endpoint.secret, self.body, at=time.time())


class Maker:
    """Makes deliveries for some endpoints, which say `processing`: that costs us one look."""

    def __init__(self, endpoints: Iterable[Endpoint], chance: random.Random) -> None:
        self._endpoints = list(endpoints)
        self._chance = chance
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.announced: deque[Delivery] = deque()
        """Deliveries that go before all else: real ends of batches."""

    def make(self, *, most_bytes: int = 20_000) -> Delivery:
        """The next delivery; its `completed_at` makes it an event of its own."""
        with self._lock:
            if self.announced:
                return self.announced.popleft()
            number = next(self._numbers)
            endpoint = self._chance.choice(self._endpoints)
            padding = int(most_bytes ** self._chance.random())
        said = {
            "batch_id": endpoint.resource,
            "status": "processing",
            "completed_at": f"2026-01-01T00:00:00.{number:09d}Z",
            "metadata": {"note": "x" * padding},
        }
        return Delivery(endpoint, json.dumps(said).encode())


def post(connection: HTTPConnection, delivery: Delivery) -> tuple[int, str]:
    """One try: the status and the outcome named in the body."""
    connection.request("POST", delivery.endpoint.path, delivery.body, delivery.signed())
    response = connection.getresponse()
    said = json.loads(response.read() or b"{}")
    return response.status, said.get("status") or said.get("error", "")
