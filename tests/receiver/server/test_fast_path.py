"""Requests that come whole are taken without a task, where this uvicorn allows it."""

import asyncio
import hashlib
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from receiver.server import config, fast_path, protocol
from receiver.server.fast_path import FastPathProtocol
from receiver.server.protocol import GuardedProtocol
from tests.processes import DEADLINE
from tests.receiver.conftest import until

HEAD = b"POST /fast HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n"
WHOLE = HEAD + b"\r\nab"
LAST = HEAD + b"Connection: close\r\n\r\nab"


class App:
    """Answers with the way that a request took; keeps the answers of `fast_path` to be given."""

    def __init__(self, http: type[GuardedProtocol] = FastPathProtocol) -> None:
        self.http = http
        self.ways: list[str] = []
        self.answers: list[Callable[[], None]] = []
        self.states = ServerState()
        self.fault: Exception | None = None
        self.is_slow = self.refuses = self.leaves_body = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while not self.leaves_body and (await receive()).get("more_body"):
            pass
        self.ways.append("task")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"task"})

    def fast_path(self, scope: Any, body: bytes, respond: Any) -> bool:
        if self.fault is not None:
            raise self.fault
        if self.refuses:
            return False
        assert (scope["path"], body) == ("/fast", b"ab")
        self.ways.append("fast")
        self.answers.append(lambda: respond(200, [(b"content-length", b"4")], b"fast"))
        if not self.is_slow:
            self.answers.pop()()
        return True

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        as_served = config(self, max_connections=9, http=self.http)
        server = await asyncio.get_running_loop().create_server(
            lambda: self.http(as_served, self.states, {}), "127.0.0.1"
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.close()

    async def say(self, *parts: bytes) -> bytes:
        """Everything that is answered to these bytes until the connection ends."""
        async with self.connected() as (reader, writer):
            for part in parts:
                writer.write(part)
                for _ in range(20):  # rounds of the loop, in which the server reads this part alone
                    await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), DEADLINE)


async def test_request_in_parts_goes_the_asgi_way() -> None:
    for parts, way in (((LAST,), "fast"), ((LAST[:-1], b"b"), "task")):
        app = App()
        answer = await app.say(*parts)
        assert app.ways == [way]
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in answer
        assert way.encode() in answer


async def test_request_left_by_the_application_goes_asgi() -> None:
    app = App()
    app.refuses = True
    assert b"task" in await app.say(LAST)


async def test_a_sender_that_expects_100_continue_gets_it() -> None:
    answer = await App().say(LAST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_requests_are_answered_in_order() -> None:
    app = App()
    answer = await app.say(WHOLE * 2, WHOLE + LAST)
    assert app.ways == ["fast", "task", "fast", "task"]
    assert answer.count(b"HTTP/1.1 200 OK") == 4


async def test_error_is_500_and_ends_the_connection() -> None:
    app = App()
    app.fault = RuntimeError("a mistake")
    assert (await app.say(WHOLE)).startswith(b"HTTP/1.1 500 ")


async def test_answer_to_a_departed_client_is_nothing() -> None:
    app = App()
    app.is_slow = True
    async with app.connected() as (_, writer):
        writer.write(WHOLE)
        await until(lambda: app.answers)
    await until(lambda: not app.states.connections)
    app.answers.pop()()


async def test_polite_stop_waits_for_the_answer() -> None:
    app = App()
    app.is_slow = True
    async with app.connected() as (reader, writer):
        writer.write(WHOLE)
        await until(lambda: app.answers)
        for connection in app.states.connections:
            connection.shutdown()
        app.answers.pop()()
        assert b"connection: close\r\n" in await asyncio.wait_for(reader.read(), DEADLINE)


# Where uvicorn's private parts are not as we know them.

PRIVATE_PARTS = {
    HttpToolsProtocol.on_headers_complete: "1ea8589acfad92d8",
    HttpToolsProtocol._start_asgi_task: "9c08c2571ae9b038",
    HttpToolsProtocol.on_response_complete: "64e254f28e389e76",
    RequestResponseCycle: "e67d470d435dcc1c",
}
"""Digests of the source that FastPathProtocol builds on, in KNOWN_VERSIONS."""


@pytest.mark.parametrize("part", PRIVATE_PARTS, ids=lambda part: part.__qualname__)
def test_uvicorns_private_parts_are_as_we_know_them(part: Any) -> None:
    digest = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16]
    assert digest == PRIVATE_PARTS[part], (
        f"uvicorn {uvicorn.__version__} changed {part.__qualname__}: compare it with what "
        "receiver/server/fast_path.py does, then set this digest and KNOWN_VERSIONS"
    )


def test_the_installed_uvicorn_has_the_fast_path() -> None:
    assert protocol() is FastPathProtocol, (
        f"uvicorn {uvicorn.__version__} is not in KNOWN_VERSIONS, or hands requests over in "
        "another way: compare its httptools_impl with receiver/server/fast_path.py"
    )


def starts_otherwise(self: Any, cycle: Any) -> None: ...


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.delattr(HttpToolsProtocol, "_start_asgi_task"),
        lambda patch: patch.setattr(HttpToolsProtocol, "_start_asgi_task", starts_otherwise),
        lambda patch: patch.setattr(uvicorn, "__version__", "0.540.0"),
    ],
    ids=["missing", "other parameters", "another version"],
)
def test_an_unknown_uvicorn_serves_in_its_plain_way(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    change(monkeypatch)
    assert not fast_path.is_supported()
    assert protocol() is GuardedProtocol


async def test_the_plain_way_answers_the_same_requests() -> None:
    for parts, count in (((LAST,), 1), ((LAST[:-1], b"b"), 1), ((WHOLE * 2, WHOLE + LAST), 4)):
        app = App(GuardedProtocol)
        answer = await app.say(*parts)
        assert app.ways == ["task"] * count
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == count
        assert answer.count(b"connection: close\r\n") == 1


async def test_plain_way_ends_a_half_read_connection() -> None:
    app = App(GuardedProtocol)
    app.leaves_body = True
    assert (await app.say(HEAD + b"\r\na")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("http", [FastPathProtocol, GuardedProtocol])
async def test_refused_head_is_answered_while_the_client_sends(http: type[GuardedProtocol]) -> None:
    app = App(http)
    async with app.connected() as (reader, writer):
        for _ in range(100):  # more than both sides' buffers hold
            writer.write(b"GET / HTTP/1.1\r\nx: " * 5_000)
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    await until(lambda: not app.states.connections)  # it ends when the client has ended


@pytest.mark.parametrize("http", [FastPathProtocol, GuardedProtocol])
async def test_offered_protocol_changes_nothing(http: type[GuardedProtocol]) -> None:
    offer = HEAD + b"Connection: upgrade, close\r\nUpgrade: h2c\r\n\r\nab"
    app = App(http)
    async with app.connected() as (reader, writer):
        writer.write(offer)
        assert b"200 OK" in await reader.read()
    assert app.ways == ["fast" if http is FastPathProtocol else "task"]
