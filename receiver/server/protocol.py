"""A connection whose requests must come in time and within bounds.

uvicorn bounds idle kept-alive connections but not the time or the size of a request's head or
trailers, so a stranger could hold connections open for nothing, or fill memory with headers.
"""

from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.server.parser import OfferlessParser

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024
HEADERS = 256
KEEP_ALIVE_SECONDS = 30
LINGER_SECONDS = 10.0
"""How long a client that was refused may go on sending, so that it comes to read why."""

HttpHeaders = list[tuple[bytes, bytes]]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class _HeadTooLarge(Exception):
    """Stops the parser; the client is answered 431."""


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
    received = chunk_at = begun_at = 0  # bytes: in all, before this chunk, before this head's chunk
    leaving_since: float | None = None  # answered for good: what still comes is not looked at
    max_connections: int | None = None
    url = b""
    refusal: bytes | None = None  # to be sent when the requests before are answered

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.parser = OfferlessParser(self)  # type: ignore[assignment]  # it acts as one

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.head_since = self.loop.time()
        # uvicorn's own refusal lacks the Retry-After that senders are promised
        self.max_connections, self.limit_concurrency = self.limit_concurrency, None

    def data_received(self, data: bytes) -> None:
        if self.leaving_since is not None:
            return
        if self.head_since is None and self.cycle.response_complete:
            self.head_since = self.loop.time()
        self.idle_since = None
        self.head_bytes += len(data)
        self.chunk_at, self.received = self.received, self.received + len(data)
        super().data_received(data)
        if self.head_bytes > HEAD_BYTES and self.leaving_since is None:
            if self.head_since is None:  # trailers, or the frames of chunks
                self.transport.abort()
            else:
                self.refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.begun_at = self.chunk_at
        if self.head_since is None:  # a further request, come together with the one before
            self.head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # it comes again, without the offer
        if len(self.headers) > HEADERS or self._is_too_large():
            raise _HeadTooLarge
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

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.end_if_over()
        super().on_response_complete()

    def end_if_over(self) -> None:
        """End the connection where the answer is complete and the body is not, or was refused.

        Of requests sent in a row, `cycle` is the last: only what is answered counts.
        """
        if not self.cycle.response_complete:
            return
        if self.cycle.more_body:
            self.transport.close()
        elif self.refusal is not None:
            self._leave(self.refusal)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or a head that is too large, which stops the parser as well."""
        is_in_body = self.cycle is not None and self.cycle.more_body
        if is_in_body and not self.cycle.response_complete:
            super().send_400_response(msg)
        else:
            self.refuse(431 if len(self.headers or ()) > HEADERS or self._is_too_large() else 400)

    def refuse(self, status: int) -> None:
        """Answer after the requests before, and look at nothing more of this connection."""
        self.leaving_since = self.loop.time()
        text = HTTPStatus(status).phrase.encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        self.refusal = response(status, self.server_state.default_headers, headers, text)
        if self.cycle is None or self.cycle.response_complete:
            self._leave(self.refusal)

    def _leave(self, refusal: bytes) -> None:
        """Say it and end our half of the connection.

        To close it whole while the client still sends would reset it, and lose the answer.
        """
        self.refusal = None
        if not self.transport.is_closing():
            self.leaving_since = self.loop.time()
            self.transport.write(refusal)
            self.transport.write_eof()

    def _is_too_large(self) -> bool:
        """Return True for a head beyond the bound; it is measured where it came among so much."""
        if self.received - self.begun_at <= HEAD_BYTES:
            return False
        sizes = (len(name) + len(value) + 4 for name, value in self.headers or ())
        return len(self.url) + sum(sizes) > HEAD_BYTES


def response(status: int, defaults: HttpHeaders, headers: HttpHeaders, body: bytes) -> bytes:
    """Return a whole response as it is sent."""
    lines = [b"%b: %b\r\n" % header for header in (*defaults, *headers)]
    return b"".join((_STATUS_LINES[status], *lines, b"\r\n", body))


async def _overloaded(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"retry-after", b"5"), (b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body"})
