"""The load generator: made to cost less than any server it drives.

Plain sockets and one epoll; requests are whole byte strings, signed before the clock starts; one
outstanding request per connection; of an answer only the status and the length are read. No event
loop: nothing stands between the two system calls that a request needs.

`closed_loop` finds how many a second a server acknowledges: each connection sends again as soon as
it is answered. `steady` finds how long an answer takes at a given rate: deliveries are due at even
intervals whatever the server does, and each latency is counted from when its delivery was *due*,
so that a stalled server cannot hide the arrivals it kept waiting (coordinated omission).

Anything but a 200 ends the measurement with LoadError.
"""

import gc
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle

SILENCE = 15.0  # seconds without any answer after which the server counts as hung
ANSWER_BYTES = 65536

Address = tuple[str, int]


class LoadError(Exception):
    """Could not measure: the server refused, hung up, fell silent or answered nonsense."""


@dataclass
class Load:
    """Counts and latencies of one measurement. Latencies are in seconds."""

    seconds: float = 0.0
    acknowledged: int = 0  # 200s inside the measured time: the rate
    stored: int = 0  # all 200s, also those that came after the end: what must be in the store
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    cpu: float = 0.0  # seconds of processor time of the generator
    late: "array[float]" = field(default_factory=lambda: array("d"))  # steady: sent after due

    @property
    def rate(self) -> float:
        """Acknowledged deliveries per second."""
        return self.acknowledged / self.seconds

    def quantile(self, share: float) -> float:
        """Give the latency that `share` of the answers did not exceed, in milliseconds."""
        return quantile(self.latencies, share) * 1000


def quantile(values: Sequence[float], share: float) -> float:
    """Give the value that `share` of `values` do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, timeout=5.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.since = 0.0
        self._send = self.socket.send
        self._recv = self.socket.recv
        self._partial = b""

    def ask(self, request: bytes, since: float) -> None:
        """Send a request whose latency counts from `since`."""
        self.since = since
        if self._send(request) != len(request):
            raise LoadError("a request did not fit into an empty socket buffer")

    def answered(self) -> bool:
        """Read what came; tell whether the answer is complete. Raises unless it is a 200."""
        data = self._recv(ANSWER_BYTES)
        if not data:
            raise LoadError("the server closed a connection with a request under way")
        if self._partial:
            data, self._partial = self._partial + data, b""
        missing = _missing(data)
        if missing > 0:
            self._partial = data
            return False
        if missing < 0 or not data.startswith(b"HTTP/1.1 200 "):
            raise LoadError(f"expected one 200, got: {data[:400]!r}")
        return True


def _missing(data: bytes) -> int:
    """Tell how many bytes the answer still lacks; negative if there is more than one answer."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 1
    start = data.find(b"content-length: ", 0, end)
    if start < 0:
        raise LoadError(f"an answer without content-length: {data[:400]!r}")
    return end + 4 + int(data[start + 16 : data.find(b"\r", start)]) - len(data)


class Connections:
    """All connections behind one epoll, to each address as many."""

    def __init__(self, addresses: Sequence[Address], count: int) -> None:
        self._stack = ExitStack()
        with ExitStack() as opening:
            self.epoll = opening.enter_context(select.epoll())
            self.by_number: dict[int, Connection] = {}
            for _, address in zip(range(count), cycle(addresses), strict=False):
                connection = Connection(address)
                opening.enter_context(connection.socket)
                self.by_number[connection.socket.fileno()] = connection
                self.epoll.register(connection.socket, select.EPOLLIN)
            self._stack = opening.pop_all()

    def close(self) -> None:
        """Close all of them."""
        self._stack.close()

    def answers(self, timeout: float = SILENCE) -> Iterator[Connection]:
        """Wait up to `timeout` for answers and give each connection that has its whole answer."""
        ready = self.epoll.poll(timeout)
        if not ready and timeout >= SILENCE:
            raise LoadError(f"no answer for {SILENCE:.0f} s")
        for number, _ in ready:
            connection = self.by_number[number]
            if connection.answered():
                yield connection


@contextmanager
def _measuring(
    addresses: Sequence[Address], connections: int
) -> Iterator[tuple[Connections, Load]]:
    """Open the connections, keep the collector out of the way, count the processor time."""
    load = Load()
    pool = Connections(addresses, connections)
    gc.collect()
    gc.disable()
    cpu = time.process_time()
    try:
        yield pool, load
    finally:
        load.cpu = time.process_time() - cpu
        gc.enable()
        pool.close()


def closed_loop(
    addresses: Sequence[Address], requests: Sequence[bytes], *, connections: int, seconds: float
) -> Load:
    """Send as fast as the server answers, for `seconds` or until the requests run out."""
    clock = time.perf_counter
    with _measuring(addresses, connections) as (pool, load):
        waiting = iter(requests)
        begin = clock()
        end = begin + seconds
        under_way = 0
        for connection, request in zip(pool.by_number.values(), waiting, strict=False):
            connection.ask(request, clock())
            under_way += 1
        while under_way:
            for connection in pool.answers():
                now = clock()
                load.stored += 1
                if now <= end:
                    load.latencies.append(now - connection.since)
                    following = next(waiting, None)
                    if following is not None:
                        connection.ask(following, now)
                        continue
                    end = now  # the requests ran out: a rate counts only while all are busy
                under_way -= 1
        load.acknowledged = len(load.latencies)
        load.seconds = end - begin
    return load


def steady(
    addresses: Sequence[Address], requests: Sequence[bytes], *, connections: int, rate: float
) -> Load:
    """Send `rate` requests a second at even intervals, all of them, by each connection in turn.

    A server rightly ends a connection on which no request has come for some seconds.
    """
    clock = time.perf_counter
    with _measuring(addresses, connections) as (pool, load):
        free = deque(pool.by_number.values())
        begin = clock() + 0.01
        sent = 0
        while load.stored < len(requests):
            now = clock()
            while free and sent < len(requests) and begin + sent / rate <= now:
                due = begin + sent / rate
                free.popleft().ask(requests[sent], due)
                load.late.append(now - due)
                sent += 1
            _wait(pool, begin + sent / rate - now if free and sent < len(requests) else SILENCE)
            for connection in pool.answers(0.0):
                load.latencies.append(clock() - connection.since)
                load.stored += 1
                free.append(connection)
        load.acknowledged = len(load.latencies)
        load.seconds = clock() - begin
    return load


def _wait(pool: Connections, seconds: float) -> None:
    """Wait for an answer or the next due time: `select` is exact where epoll rounds up to 1 ms."""
    ready, _, _ = select.select((pool.epoll,), (), (), max(0.0, seconds))
    if not ready and seconds >= SILENCE:
        raise LoadError(f"no answer for {SILENCE:.0f} s")
