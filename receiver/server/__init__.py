"""The HTTP server: uvicorn, with bounds on connections that never get to a request.

protocol: bounds in time and size for all that is sent before and after a request
parser: reads a request as HTTP/1.1, whatever else it offers to speak
fast_path: takes a request that has come whole without a task, where uvicorn's private parts allow
"""

import logging
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from receiver.errors import UsageError
from receiver.server.fast_path import FastPathProtocol, is_supported
from receiver.server.protocol import (
    HEAD_SECONDS,
    KEEP_ALIVE_SECONDS,
    LINGER_SECONDS,
    GuardedProtocol,
)
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle

__all__ = ["GuardedProtocol", "config", "listen", "protocol", "run"]

STOP_SECONDS = 10
BACKLOG = 2048

log = get_logger("server")


class _Server(uvicorn.Server):
    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._end_the_idle()
        return await super().on_tick(counter)

    def _end_the_idle(self) -> None:
        """End connections that have been silent, or busy with a request's head, for too long."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol):
                now = connection.loop.time()
                if connection.leaving_since is not None:
                    is_answered = connection.refusal is None
                    if is_answered and now - connection.leaving_since > LINGER_SECONDS:
                        connection.transport.abort()
                elif now - (connection.head_since or now) > HEAD_SECONDS:
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
    """Return a listening socket; raises UsageError where the address cannot be had."""
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


def protocol() -> type[GuardedProtocol]:
    """Return the protocol for this uvicorn: with the fast path, if it is one that we know."""
    if is_supported():
        return FastPathProtocol
    log.warning(
        "this uvicorn is unknown: deliveries are taken in its plain way, which costs more",
        uvicorn=uvicorn.__version__,
    )
    return GuardedProtocol


def config(
    app: ASGIApp, *, max_connections: int, http: type[GuardedProtocol] | None = None
) -> uvicorn.Config:
    """Return uvicorn's configuration, with nothing around the application: it hides `fast_path`."""
    return uvicorn.Config(
        app,
        http=http or protocol(),
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
