"""A connection whose requests must come in time and within bounds.

uvicorn bounds idle kept-alive connections but not the time or the size of a request's head or
trailers, so a stranger could hold connections open for nothing, or fill memory with headers.
"""

from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 30


class GuardedProtocol(HttpToolsProtocol):
    """A connection that must deliver the head of its request in time, and all within bounds.

    The clock runs whenever no request is being worked on: what is sent after an answer must become
    a request in time, too. A body has a clock of its own, where somebody reads it; an answer that
    is complete before its body was read ends the connection. One look at all connections serves
    these clocks: a timer for each would cost more than the rest of this class.
    """

    head_since: float | None = None
    idle_since: float | None = None
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
        self.idle_since = None
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
        self.end_if_unread()
        super().on_response_complete()

    def end_if_unread(self) -> None:
        """End the connection where the answer is complete and the body is not.

        Of requests sent in a row, `cycle` is the last: only what is answered counts.
        """
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()


async def _overloaded(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"retry-after", b"5"), (b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body"})
