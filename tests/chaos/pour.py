"""Deliveries without end, each sent until it is answered 200, and the answers that came."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from tests.chaos.sending import ANSWER_LIMIT, Delivery, post
from tests.processes import DEADLINE, HOST

PAUSE = 0.05 if "CHAOS_KILLS" in os.environ else 0.3
"""The longest rest of a sender: the short form leaves something of the machine to others."""

REFUSED_PAUSE = 0.1
TICK = 0.05


@dataclass
class Answers:
    """The answers to senders. `acknowledged` holds each body's digest and its first 200."""

    acknowledged: dict[bytes, str] = field(default_factory=dict)
    accepted: Counter[bytes] = field(default_factory=Counter)
    sent: set[bytes] = field(default_factory=set)
    other: Counter[int] = field(default_factory=Counter)
    cut: int = 0  # tries that ended without an answer
    hung: int = 0  # of them those that were given up by the sender
    slowest: float = 0.0
    slowest_refusal: float | None = None
    lag: float = 0.0
    """The longest delay with which a thread of ours woke up: the machine's own share."""

    def note(self, delivery: Delivery, status: int, outcome: str, seconds: float) -> None:
        self.slowest = max(self.slowest, seconds)
        if status != 200:
            self.other[status] += 1
            self.slowest_refusal = max(self.slowest_refusal or 0.0, seconds)
            return
        self.acknowledged.setdefault(delivery.digest, outcome)
        if outcome == "accepted":
            self.accepted[delivery.digest] += 1

    @property
    def refused(self) -> int:
        return self.other[503]


class Lines:
    """One sender's connections, one to each port, and the answers that it had."""

    def __init__(self, ports: Sequence[int], answers: Answers, lock: threading.Lock) -> None:
        self._connections = [HTTPConnection(HOST, port, timeout=ANSWER_LIMIT) for port in ports]
        self._answers = answers
        self._lock = lock

    def send(self, delivery: Delivery, chance: random.Random) -> bool:
        """One try, at any of the ports; says whether it was acknowledged."""
        connection = chance.choice(self._connections)
        with self._lock:
            self._answers.sent.add(delivery.digest)
        began = time.monotonic()
        try:
            status, outcome = post(connection, delivery)
        except (OSError, HTTPException) as error:
            connection.close()
            with self._lock:
                self._answers.cut += 1
                self._answers.hung += isinstance(error, TimeoutError)
            return False
        seconds = time.monotonic() - began
        with self._lock:
            self._answers.note(delivery, status, outcome, seconds)
        return status == 200

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Pour:
    """Threads that deliver without pause but a short one, each delivery until its 200.

    Each try goes to one of `ports`. `again` is the share of deliveries that are sent a second time
    although they were answered.
    """

    def __init__(
        self,
        ports: Sequence[int],
        make: Callable[[], Delivery],
        *,
        threads: int = 6,
        pause: float = PAUSE,
        again: float = 0.1,
        chance: random.Random,
    ) -> None:
        self.answers = Answers()
        self._ports = ports
        self._make = make
        self._pause = pause
        self._again = again
        self._chance = chance
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._give_up = threading.Event()
        runs = [self._run] * threads + [self._look_at_the_machine]
        self._threads = [threading.Thread(target=run, daemon=True) for run in runs]

    def __enter__(self) -> "Pour":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up.set()
        self.finish()

    def finish(self, *, seconds: float = DEADLINE) -> None:
        """Make no new deliveries; return when those in hand are answered."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a delivery was not answered in time"

    def _run(self) -> None:
        lines = Lines(self._ports, self.answers, self._lock)
        try:
            while not self._stop.is_set():
                delivery = self._make()
                self._deliver(lines, delivery)
                if self._chance.random() < self._again:
                    self._deliver(lines, delivery)
                self._stop.wait(self._chance.random() * self._pause)
        finally:
            lines.close()

    def _look_at_the_machine(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(TICK):
            self.answers.lag = max(self.answers.lag, time.monotonic() - began - TICK)
            began = time.monotonic()

    def _deliver(self, lines: Lines, delivery: Delivery) -> None:
        while not self._give_up.is_set() and not lines.send(delivery, self._chance):
            time.sleep(REFUSED_PAUSE)
