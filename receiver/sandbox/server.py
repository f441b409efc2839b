"""Servers of the sandbox on loopback: the process itself, or a thread for tests."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.sandbox.addresses import require_loopback
from receiver.sandbox.app import create_sandbox
from receiver.sandbox.clock import SandboxClock
from receiver.sandbox.faults import CUT
from receiver.sandbox.switches import SandboxError, Switches

START_SECONDS = 60.0


class _CuttingProtocol(HttpToolsProtocol):
    """Protocol of uvicorn with an extension by which an answer cuts its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {"abort": self.transport.abort}}


def _listen(host: str, port: int) -> socket.socket:
    require_loopback(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SandboxError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(switches: Switches | None, clock: SandboxClock | None = None) -> uvicorn.Server:
    config = uvicorn.Config(
        create_sandbox(switches, clock=clock),
        http=_CuttingProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        # A fault that hangs must not keep the process from ending.
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def run(
    host: str = "127.0.0.1",
    port: int = 9009,
    switches: Switches | None = None,
    *,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted; port 0 takes a free one. `started` is called with the URL.

    Raises SandboxError if the host is not this machine or the port is taken.
    """
    with closing(_listen(host, port)) as listening:
        listening.listen(2048)
        if started is not None:
            started(_url(listening))
        with suppress(KeyboardInterrupt):
            _server(switches).run(sockets=[listening])


class SandboxServer:
    """Client of the control routes of a sandbox that runs elsewhere."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=f"{url}/_sandbox", trust_env=False)

    @property
    def api_url(self) -> str:
        """The base_url for clients of Valyu; clients of Parallel take `url`."""
        return f"{self.url}/v1"

    def state(self) -> dict[str, Any]:
        """Return what has happened so far as JSON without secrets."""
        return dict(self._send("GET", "/state"))

    def change(self, **switches: Any) -> None:
        """Replace the switches named; raises SandboxError."""
        self._send("PUT", "/switches", switches)

    def add_fault(self, match: str, **fault: Any) -> None:
        """Add a fault to the plan; the names are those of `Fault`. Raises SandboxError."""
        self._send("POST", "/faults", {"match": match, **fault})

    def deliver(self, id: str, *, times: int = 1, **changes: Any) -> None:
        """Send the webhooks of a resource; `changes` replaces keys of the announced object.

        Raises SandboxError.
        """
        self._send("POST", "/deliver", {"id": id, "times": times, "changes": changes})

    def reset(self) -> None:
        """Forget all state, and return to the first switches."""
        self._send("POST", "/reset")

    def close(self) -> None:
        """Close the connection to the control routes; the sandbox keeps running."""
        self._client.close()

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = self._client.request(method, path, json=body)
        if response.is_error:
            raise SandboxError(response.json()["error"])
        return response.json()


@contextmanager
def serve_in_thread(
    switches: Switches | None = None, *, port: int = 0, clock: SandboxClock | None = None
) -> Iterator[SandboxServer]:
    """Run a sandbox in a thread of this process until the end of the block.

    A test that gives a `ManualClock` decides when time passes.
    """
    with closing(_listen("127.0.0.1", port)) as listening:
        server = _server(switches, clock)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            with closing(SandboxServer(_url(listening))) as sandbox:
                yield sandbox
        finally:
            server.should_exit = True
            thread.join()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise SandboxError("the sandbox did not start")
        time.sleep(0.005)
