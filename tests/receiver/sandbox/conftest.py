"""One sandbox for all tests, reset before each; a receiver that keeps what it is sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from parallel import Parallel
from valyu import Valyu, verify_contents_webhook

from receiver.sandbox import ManualClock, SandboxServer, Switches, serve_in_thread
from tests.processes import until


@dataclass(frozen=True)
class Delivery:
    """A request that the inbox was sent."""

    path: str
    signature: str | None
    timestamp: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    """A server with room for the many connections of a burst of deliveries."""

    request_queue_size = 1024


class Inbox:
    """A webhook receiver over real HTTP, which keeps what it receives in order.

    It answers with `answers` in turn, and then with 200, as long as `answering` is set.
    """

    def __init__(self) -> None:
        self.received: list[Delivery] = []
        self.answers: list[int] = []
        self.answering = Event()
        self.answering.set()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signature = self.headers["X-Webhook-Signature"]
                stamp = self.headers["X-Webhook-Timestamp"]
                headers = {name.lower(): value for name, value in self.headers.items()}
                inbox.received.append(Delivery(self.path, signature, stamp, body, headers))
                inbox.answering.wait()
                self.send_response(inbox.answers.pop(0) if inbox.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler

    def expect(self, count: int) -> list[Delivery]:
        """Wait for this many deliveries, and return all of them."""
        until(lambda: len(self.received) >= count)
        return list(self.received)

    def close(self) -> None:
        self.answering.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def running_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def running(running_clock: ManualClock) -> Iterator[SandboxServer]:
    switches = Switches(duration=(0, 0), first_retry_wait=0)
    with serve_in_thread(switches, clock=running_clock) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: SandboxServer, clock: ManualClock) -> SandboxServer:
    """A sandbox without state; unless the test changes it, tasks and waits take no time."""
    running.reset()
    clock.restart()
    return running


@pytest.fixture
def clock(running_clock: ManualClock) -> ManualClock:
    """The sandbox's clock, which only the test moves."""
    return running_clock


@pytest.fixture
def sdk(sandbox: SandboxServer) -> Iterator[Valyu]:
    """Valyu's official client."""
    with Valyu(api_key="val_test", base_url=sandbox.api_url, max_rate_limit_retries=0) as valyu:
        yield valyu


@pytest.fixture(scope="session")
def parallel_client(running: SandboxServer) -> Iterator[Parallel]:
    with Parallel(
        api_key="any key",
        base_url=running.url,
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest.fixture
def parallel(sandbox: SandboxServer, parallel_client: Parallel) -> Parallel:
    """Parallel's official client, which refuses answers that are not as it knows them."""
    return parallel_client


@pytest.fixture
def http(sandbox: SandboxServer) -> Iterator[httpx.Client]:
    """A client that sees the answers as they are."""
    headers = {"x-api-key": "val_test"}
    with httpx.Client(base_url=sandbox.api_url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def v0(sandbox: SandboxServer) -> Iterator[httpx.Client]:
    """A client of the v0 API."""
    headers = {"x-api-key": "any key"}
    with httpx.Client(base_url=f"{sandbox.url}/v0", headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close()


def a_batch(sdk: Valyu, *queries: str, webhook_url: str | None = None) -> Any:
    """A batch with a task for each query, as creating it was answered."""
    batch = sdk.batch.create(webhook_url=webhook_url)
    tasks = [{"query": query} for query in queries or ["q"]]
    assert sdk.batch.add_tasks(batch.batch_id, tasks).success
    return batch


def genuine(delivery: Delivery, secret: str) -> bool:
    """Return True if the official SDK accepts the delivery with this secret."""
    if delivery.signature is None:
        return False
    signed = (delivery.body, delivery.signature, delivery.timestamp, secret)
    return bool(verify_contents_webhook(*signed))


def log(sandbox: SandboxServer) -> list[dict[str, Any]]:
    """Wait for the last delivery, and return the log."""
    until(lambda: sandbox.state()["pending_deliveries"] == 0)
    return list(sandbox.state()["deliveries"])
