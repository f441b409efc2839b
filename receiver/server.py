"""The HTTP server: uvicorn, with limits on connections that never get to a request.

uvicorn bounds idle kept-alive connections but not the time or the size of a request's head or
trailers, so a stranger could hold connections open for nothing, or fill memory with headers.
"""

import logging
import signal
import socket
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from receiver.errors import UsageError
from receiver.telemetry.throttle import Throttle

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 30
STOP_SECONDS = 10
BACKLOG = 2048


class GuardedProtocol(HttpToolsProtocol):
    """A connection that must deliver the head of its request in time, and all within bounds.

    The clock runs whenever nothing is asked of us: what is sent after an answer must become a
    request in time, too. A body has a clock of its own, where somebody reads it; what nobody has
    read when the answer is complete ends the connection. One look at all connections serves these
    clocks: a timer for each would cost more than the rest of this class.

    A request that has come whole is offered to the application's `at_once`, where it has one, and
    is answered in one write. That spares a task, its wake-ups and a system call, which together
    cost more than verifying a delivery; whatever comes in pieces goes the ASGI way.
    """

    head_since: float | None = None
    idle_since: float | None = None
    head_bytes = 0  # whatever is no body: heads, trailers, the frames of chunks
    max_connections: int | None = None
    is_feeding = False
    begun: tuple[RequestResponseCycle, Any] | None = None  # what began in the bytes being fed

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.head_since = self.loop.time()
        # uvicorn's own refusal lacks the Retry-After that senders are promised
        self.max_connections, self.limit_concurrency = self.limit_concurrency, None

    def data_received(self, data: bytes) -> None:
        if self.head_since is None and self.cycle.response_complete:
            self.head_since = self.loop.time()
        self.idle_since = None
        self.head_bytes += len(data)
        self.is_feeding = True
        super().data_received(data)
        self.is_feeding = False
        if self.head_bytes > HEAD_BYTES:
            self.transport.abort()
        if self.begun is not None:
            (cycle, app), self.begun = self.begun, None
            if not self._take_at_once(cycle, app):
                super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.head_since is None:  # a further request, come together with the one before
            self.head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self.head_bytes = 0
        if self.max_connections is not None and len(self.connections) > self.max_connections:
            self.logger.warning("Too many connections.")
            self.app = _overloaded
        super().on_headers_complete()
        self.head_since = None
        self.headers = []  # trailers are no headers: nobody reads them

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        # of requests sent in a row, `cycle` is the last: only what is answered counts
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    # --- at once -------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Wait, while bytes are fed, for the end of the body that may be among them."""
        if self.is_feeding:
            self.begun = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _take_at_once(self, cycle: RequestResponseCycle, app: Any) -> bool:
        at_once = getattr(app, "at_once", None)
        is_whole = not cycle.more_body and not cycle.waiting_for_100_continue
        if at_once is None or not is_whole or self.flow.write_paused:
            return False
        answer = partial(self._answer, cycle)
        try:
            is_taken = bool(at_once(cycle.scope, bytes(cycle.body), answer))
        except Exception:
            self.logger.exception("Exception in ASGI application")
            cycle.keep_alive = False
            answer(500, [(b"content-length", b"0")], b"")
            return True
        if is_taken:
            cycle.body = bytearray()  # the connection may be kept, and idle, for long
        return is_taken

    def _answer(
        self,
        cycle: RequestResponseCycle,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Send a whole response in one write; nothing where the client has left."""
        if cycle.disconnected or cycle.response_complete or self.transport.is_closing():
            return
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        self.transport.write(_response(status, self.server_state.default_headers, headers, body))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()


def _response(
    status: int,
    ours: list[tuple[bytes, bytes]],
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in (*ours, *headers)]
    return b"".join((STATUS_LINE[status], *lines, b"\r\n", body))


async def _overloaded(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"retry-after", b"5"), (b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body"})


class _Server(uvicorn.Server):
    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._end_the_idle()
        return await super().on_tick(counter)

    def _end_the_idle(self) -> None:
        """End what has been silent, or busy with the head of a request, for too long."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol):
                now = connection.loop.time()
                if now - (connection.head_since or now) > HEAD_SECONDS:
                    connection.transport.abort()
                elif now - (connection.idle_since or now) > KEEP_ALIVE_SECONDS:
                    connection.transport.close()


class _OnceInAWhile(logging.Filter):
    """One line per text and interval: a flood of bad requests must not fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        return self._throttle.allow(str(record.msg)) is not None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises UsageError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --host or --port."
        ) from error
    return listening


def run(app: ASGIApp, listening: socket.socket, *, max_connections: int) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is being answered, and return."""
    # uvicorn raises the signal once more when it has stopped; that must not keep us from closing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    logging.getLogger("uvicorn.error").addFilter(_OnceInAWhile())
    _Server(config(app, max_connections=max_connections)).run(sockets=[listening])


def config(app: ASGIApp, *, max_connections: int) -> uvicorn.Config:
    """What uvicorn is told. It must put nothing around the application: `at_once` would be lost."""
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks where a request came from: its signature counts
        server_header=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
