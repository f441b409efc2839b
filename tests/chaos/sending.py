"""Senders: signed deliveries, no two the same event, sent until they are answered 200."""

import hashlib
import itertools
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu_signing import headers
from tests.chaos.processes import HOST

ANSWER_LIMIT = 30.0
REFUSED_PAUSE = 0.1


@dataclass(frozen=True)
class Endpoint:
    """Where deliveries go: the URL's path, its secret, and the batch that it is for."""

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
        return headers(Switches(), self.endpoint.secret, self.body)


class Maker:
    """Makes deliveries for some endpoints, which say `processing`: that costs us one look."""

    def __init__(self, endpoints: Iterable[Endpoint], draw: random.Random) -> None:
        self._endpoints = list(endpoints)
        self._draw = draw
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.announced: deque[Delivery] = deque()
        """What is to be delivered before all else: real ends of batches."""

    def make(self, *, most_bytes: int = 20_000) -> Delivery:
        """The next delivery; its `completed_at` makes it an event of its own."""
        with self._lock:
            if self.announced:
                return self.announced.popleft()
            number = next(self._numbers)
            endpoint = self._draw.choice(self._endpoints)
            padding = int(most_bytes ** self._draw.random())
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


@dataclass
class Answers:
    """What the senders were told. `acknowledged` holds each body's digest and its first 200."""

    acknowledged: dict[bytes, str] = field(default_factory=dict)
    accepted: Counter[bytes] = field(default_factory=Counter)
    sent: set[bytes] = field(default_factory=set)
    other: Counter[int] = field(default_factory=Counter)
    cut: int = 0  # tries that ended without an answer

    def note(self, delivery: Delivery, status: int, outcome: str) -> None:
        if status != 200:
            self.other[status] += 1
            return
        self.acknowledged.setdefault(delivery.digest, outcome)
        if outcome == "accepted":
            self.accepted[delivery.digest] += 1


class Pour:
    """Threads that deliver without pause but a short one, each delivery until its 200.

    `again` is the share of deliveries that are sent a second time although they were answered.
    """

    def __init__(
        self,
        port: int,
        make: Callable[[], Delivery],
        *,
        threads: int = 6,
        pause: float = 0.05,
        again: float = 0.1,
        draw: random.Random,
    ) -> None:
        self.answers = Answers()
        self._port = port
        self._make = make
        self._pause = pause
        self._again = again
        self._draw = draw
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Pour":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up.set()
        self.finish()

    def finish(self, *, seconds: float = 60.0) -> None:
        """Make no new deliveries; return when those in hand are answered."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a delivery was not answered in time"

    def _run(self) -> None:
        with closing(HTTPConnection(HOST, self._port, timeout=ANSWER_LIMIT)) as connection:
            while not self._stop.is_set():
                delivery = self._make()
                self._deliver(connection, delivery)
                if self._draw.random() < self._again:
                    self._deliver(connection, delivery)
                self._stop.wait(self._draw.random() * self._pause)

    def _deliver(self, connection: HTTPConnection, delivery: Delivery) -> None:
        status = 0
        while status != 200 and not self._give_up.is_set():
            with self._lock:
                self.answers.sent.add(delivery.digest)
            try:
                status, outcome = post(connection, delivery)
            except (OSError, HTTPException):
                connection.close()
                with self._lock:
                    self.answers.cut += 1
                time.sleep(REFUSED_PAUSE)
                continue
            with self._lock:
                self.answers.note(delivery, status, outcome)
            if status != 200:
                time.sleep(REFUSED_PAUSE)
