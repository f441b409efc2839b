"""The HTTP server: uvicorn, with limits on connections that never get to a request.

uvicorn bounds idle kept-alive connections but not the time or the size of a request's head or
trailers, so a stranger could hold connections open for nothing, or fill memory with headers.
"""

import logging
import signal
import socket
import time
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.errors import UsageError
from receiver.logs import Throttle

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 30
STOP_SECONDS = 10
BACKLOG = 2048


class GuardedProtocol(HttpToolsProtocol):
    """A connection that must deliver the head of its request in time, and all within bounds.

    The clock runs whenever nothing is asked of us: what is sent after an answer must become a
    request in time, too. A body has a clock of its own, where somebody reads it; what nobody has
    read when the answer is complete ends the connection.
    """

    head_since: float | None = None
    head_bytes = 0  # whatever is no body: heads, trailers, the frames of chunks
    max_connections: int | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.head_since = self.loop.time()
        # uvicorn's own refusal lacks the Retry-After that senders are promised
        self.max_connections, self.limit_concurrency = self.limit_concurrency, None

    def data_received(self, data: bytes) -> None:
        if self.head_since is None and self.cycle.response_complete:
            self.head_since = self.loop.time()
        self.head_bytes += len(data)
        super().data_received(data)
        if self.head_bytes > HEAD_BYTES:
            self.transport.abort()

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
        super().on_response_complete()
        # of requests sent in a row, `cycle` is the last: only what is answered counts
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()


async def _overloaded(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"retry-after", b"5"), (b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body"})


class _Server(uvicorn.Server):
    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._end_slow_heads()
        return await super().on_tick(counter)

    def _end_slow_heads(self) -> None:
        for connection in list(self.server_state.connections):
            since = getattr(connection, "head_since", None)
            if since is not None and connection.loop.time() - since > HEAD_SECONDS:
                connection.transport.abort()


class _OnceInAWhile(logging.Filter):
    """One line per text and interval: a flood of bad requests must not fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        return self._throttle.allow(str(record.msg), time.monotonic()) is not None


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
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks where a request came from: its signature counts
        server_header=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    _Server(config).run(sockets=[listening])
