"""ClientPool that act as one: a connection for each call in flight, kept for the next."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from receiver.sender_api import client_pool
from receiver.sender_api.client_pool import ClientPool, clients_for
from tests.processes import DEADLINE

REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sender:
    """A server that answers `answer` to each request, when `may_answer` is set."""

    def __init__(self) -> None:
        self.answer = ANSWER
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.opened = self.closed = 0
        self.request_lines: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.opened += 1
        try:
            while line := await reader.readline():
                self.request_lines.append(line)
                while (await reader.readline()).strip():
                    pass
                await self.may_answer.wait()
                writer.write(self.answer)
        finally:
            self.closed += 1
            writer.close()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """One that runs."""
    started = Sender()
    async with await asyncio.start_server(started.serve, "127.0.0.1", 0) as server:
        started.port = server.sockets[0].getsockname()[1]
        yield started


@pytest.fixture
async def wire() -> AsyncIterator[ClientPool]:
    """ClientPool as everybody has them."""
    async with clients_for() as made:
        yield made


async def get(wire: ClientPool, sender: Sender) -> int:
    async with wire.stream("GET", sender.url, timeout=DEADLINE) as response:
        await response.aread()
    return response.status_code


async def until(connections: tuple[int, int], *, of: Sender) -> None:
    async with asyncio.timeout(DEADLINE):
        while (of.opened, of.closed) != connections:
            await asyncio.sleep(0.005)


async def test_sequential_calls_share_a_connection(wire: ClientPool, sender: Sender) -> None:
    assert [await get(wire, sender) for _ in range(5)] == [200] * 5
    assert (sender.opened, sender.closed) == (1, 0)


async def test_parallel_calls_have_own_connections(wire: ClientPool, sender: Sender) -> None:
    for _ in range(3):
        sender.may_answer.clear()
        calls = [asyncio.create_task(get(wire, sender)) for _ in range(40)]
        request_lines = len(sender.request_lines) + 40
        async with asyncio.timeout(DEADLINE):
            while len(sender.request_lines) < request_lines:
                await asyncio.sleep(0.005)
        sender.may_answer.set()
        assert await asyncio.gather(*calls) == [200] * 40
    assert (sender.opened, sender.closed) == (40, 0)


async def test_cancelled_call_drops_its_connection(wire: ClientPool, sender: Sender) -> None:
    sender.may_answer.clear()
    call = asyncio.create_task(get(wire, sender))
    await until((1, 0), of=sender)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    sender.may_answer.set()
    assert await get(wire, sender) == 200
    await until((2, 1), of=sender)


async def test_refusal_keeps_but_breakage_drops_connection(
    wire: ClientPool, sender: Sender
) -> None:
    async def refused() -> None:
        async with wire.stream("GET", sender.url) as response:
            await response.aread()
            raise ValueError("429")

    with pytest.raises(ValueError, match="429"):
        await refused()
    assert await get(wire, sender) == 200
    assert sender.opened == 1
    sender.answer = b"what?\r\n\r\n"
    with pytest.raises(httpx.RemoteProtocolError):
        await get(wire, sender)
    sender.answer = ANSWER
    assert await get(wire, sender) == 200


async def test_unused_connections_are_closed(
    wire: ClientPool, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*(get(wire, sender) for _ in range(8)))
    opened = sender.opened
    assert opened > 1
    await get(wire, sender)
    assert sender.closed == 0
    monkeypatch.setattr(client_pool, "KEPT_SECONDS", 0)
    await get(wire, sender)
    await until((opened, opened - 1), of=sender)


async def test_failing_close_harms_no_call(
    wire: ClientPool, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = httpx.AsyncClient.aclose

    async def refuse(client: httpx.AsyncClient) -> None:
        await closed(client)
        raise OSError("no")

    await asyncio.gather(*(get(wire, sender) for _ in range(3)))
    with monkeypatch.context() as patched:
        patched.setattr(client_pool, "KEPT_SECONDS", 0)
        patched.setattr(httpx.AsyncClient, "aclose", refuse)
        assert await get(wire, sender) == 200


async def test_unfinished_answer_drops_its_connection(wire: ClientPool, sender: Sender) -> None:
    async def lines() -> AsyncGenerator[str]:
        async with wire.stream("GET", sender.url) as response:
            async for line in response.aiter_lines():
                yield line

    async with aclosing(lines()) as read:
        assert await anext(read) == "ok"
    await until((1, 1), of=sender)
    assert await get(wire, sender) == 200


async def test_origins_have_separate_connections(wire: ClientPool, sender: Sender) -> None:
    other = Sender()
    async with await asyncio.start_server(other.serve, "127.0.0.1", 0) as server:
        other.port = server.sockets[0].getsockname()[1]
        for _ in range(3):
            await asyncio.gather(*(get(wire, one) for one in (sender, other)))
    assert (sender.opened, other.opened) == (1, 1)


async def test_closed_pool_makes_no_calls(sender: Sender) -> None:
    async with clients_for() as wire:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await get(wire, sender)


async def test_the_end_closes_all(sender: Sender) -> None:
    async with clients_for() as wire:
        await asyncio.gather(*(get(wire, sender) for _ in range(8)))
    await until((sender.opened, sender.opened), of=sender)


async def test_a_redirect_is_not_followed(wire: ClientPool, sender: Sender) -> None:
    sender.answer = REDIRECT
    assert await get(wire, sender) == 302
    assert sender.request_lines == [b"GET / HTTP/1.1\r\n"]
