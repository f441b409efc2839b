"""Takes a request that has come whole without a task, and answers it in one write.

That spares a task, its wake-ups and a system call, which together cost more than verifying a
delivery. It uses private parts of uvicorn, so `is_supported` must say that they are as we know
them; GuardedProtocol serves the same requests without them.
"""

from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.server.protocol import GuardedProtocol, HttpHeaders, response

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

KNOWN_VERSIONS = ("0.54.",)
"""Beginnings of the versions of uvicorn whose private parts we know."""

_PARAMETERS = ["self", "cycle", "app"]


def is_supported() -> bool:
    """Return True if this uvicorn hands its requests over as FastPathProtocol expects."""
    start = getattr(HttpToolsProtocol, "_start_asgi_task", None)
    is_known = uvicorn.__version__.startswith(KNOWN_VERSIONS)
    return is_known and start is not None and [*signature(start).parameters] == _PARAMETERS


class FastPathProtocol(GuardedProtocol):
    """Offers each request that has come whole to the application's `fast_path`, if it has one.

    A request that comes in pieces, or that `fast_path` leaves, goes the ASGI way.
    """

    is_feeding = False
    begun: tuple["RequestResponseCycle", Any] | None = None  # began in the bytes being fed

    def data_received(self, data: bytes) -> None:
        self.is_feeding = True
        super().data_received(data)
        self.is_feeding = False
        if self.begun is not None:
            (cycle, app), self.begun = self.begun, None
            if not self._take(cycle, app):
                super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Begin the next request, without the timer that uvicorn sets for each answer."""
        self.server_state.total_requests += 1
        self.end_if_over()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    def _start_asgi_task(self, cycle: "RequestResponseCycle", app: Any) -> None:
        """Wait, while bytes are fed, for the end of the body that may be among them."""
        if self.is_feeding:
            self.begun = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _take(self, cycle: "RequestResponseCycle", app: Any) -> bool:
        fast_path = getattr(app, "fast_path", None)
        is_whole = not cycle.more_body and not cycle.waiting_for_100_continue
        if fast_path is None or not is_whole or self.flow.write_paused:
            return False
        respond = partial(self._respond, cycle)
        try:
            is_taken = bool(fast_path(cycle.scope, bytes(cycle.body), respond))
        except Exception:
            self.logger.exception("Exception in ASGI application")
            cycle.keep_alive = False
            respond(500, [(b"content-length", b"0")], b"")
            return True
        if is_taken:
            cycle.body = bytearray()  # the connection may be kept, and idle, for long
        return is_taken

    def _respond(
        self, cycle: "RequestResponseCycle", status: int, headers: HttpHeaders, body: bytes
    ) -> None:
        """Send a whole response in one write; nothing where the client has left."""
        if cycle.disconnected or cycle.response_complete or self.transport.is_closing():
            return
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        self.transport.write(response(status, self.server_state.default_headers, headers, body))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
