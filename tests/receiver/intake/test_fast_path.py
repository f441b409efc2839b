"""Requests that come whole are taken without a task, and answered as all others are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.server import ServerState

from receiver.intake import intake
from receiver.intake.request_body import Bodies
from receiver.intake.routes import STATUSES, HttpHeaders, webhook, webhook_at_once
from receiver.server import GuardedProtocol, config
from storage import Store
from tests.receiver.conftest import (
    OTHER_BATCH,
    OTHER_SECRET,
    Headers,
    Taking,
    add_endpoint,
    batch_body,
    events,
    signed,
    stuck,
    until,
)

BODY = batch_body()
HEAD = b"POST /at-once HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n"
WHOLE = HEAD + b"\r\nab"
LAST = HEAD + b"Connection: close\r\n\r\nab"


class App:
    """Answers with the way that a request took; keeps the answers of `at_once` to be given."""

    def __init__(self) -> None:
        self.ways: list[str] = []
        self.answers: list[Callable[[], None]] = []
        self.states = ServerState()
        self.fault: Exception | None = None
        self.is_slow = self.refuses = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.ways.append("task")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"task"})

    def at_once(self, scope: Any, body: bytes, answer: Any) -> bool:
        if self.fault is not None:
            raise self.fault
        if self.refuses:
            return False
        assert (scope["path"], body) == ("/at-once", b"ab")
        self.ways.append("at once")
        self.answers.append(lambda: answer(200, [(b"content-length", b"7")], b"at once"))
        if not self.is_slow:
            self.answers.pop()()
        return True

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        as_served = config(self, max_connections=9)
        server = await asyncio.get_running_loop().create_server(
            lambda: GuardedProtocol(as_served, self.states, {}), "127.0.0.1"
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
                await asyncio.sleep(0.02)
            return await asyncio.wait_for(reader.read(), 5)


async def test_what_comes_whole_is_taken_at_once_and_what_comes_in_parts_by_a_task() -> None:
    for parts, way in (((LAST,), "at once"), ((LAST[:-1], b"b"), "task")):
        app = App()
        answer = await app.say(*parts)
        assert app.ways == [way]
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in answer
        assert way.encode() in answer


async def test_what_is_not_taken_at_once_goes_the_asgi_way() -> None:
    app = App()
    app.refuses = True
    assert b"task" in await app.say(LAST)


async def test_who_expects_to_be_told_to_continue_is() -> None:
    answer = await App().say(LAST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_requests_in_a_row_are_answered_in_their_order() -> None:
    app = App()
    answer = await app.say(WHOLE * 2, WHOLE + LAST)
    assert app.ways == ["at once", "task", "at once", "task"]
    assert answer.count(b"HTTP/1.1 200 OK") == 4


async def test_a_fault_of_ours_is_a_500_and_ends_the_connection() -> None:
    app = App()
    app.fault = RuntimeError("a mistake")
    assert (await app.say(WHOLE)).startswith(b"HTTP/1.1 500 ")


async def test_an_answer_to_who_has_left_is_nothing() -> None:
    app = App()
    app.is_slow = True
    async with app.connected() as (_, writer):
        writer.write(WHOLE)
        await until(lambda: app.answers)
    await until(lambda: not app.states.connections)
    app.answers.pop()()


async def test_a_polite_stop_waits_for_the_answer_and_ends_the_connection() -> None:
    app = App()
    app.is_slow = True
    async with app.connected() as (reader, writer):
        writer.write(WHOLE)
        await until(lambda: app.answers)
        for connection in app.states.connections:
            connection.shutdown()
        app.answers.pop()()
        assert b"connection: close\r\n" in await asyncio.wait_for(reader.read(), 5)


# The webhook route, both ways.


class Knocking:
    """Knocks at both ways with the same requests."""

    def __init__(self, taking: Taking, **bodies: int) -> None:
        self._endpoints = taking.endpoints
        self.state = {"intake": taking.intake, "bodies": Bodies(bodies.get("bodies", 2**20))}

    def scope(self, path: str, headers: Headers, method: str) -> dict[str, Any]:
        return {"method": method, "path": path, "headers": headers, "state": self.state}

    async def by_task(self, path: str, headers: Headers, body: bytes, method: str) -> Any:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await webhook(self.scope(path, headers, method), receive, send)
        return sent[0]["status"], sent[0]["headers"], sent[1]["body"]

    async def at_once(
        self,
        path: str,
        headers: Headers,
        body: bytes,
        *,
        known: str | None = None,
        method: str = "POST",
    ) -> Any:
        """The answer; None where the request is left to the other way."""
        while known is not None and self._endpoints.cached(known) is None:
            await self._endpoints.find(known)
        told: list[tuple[int, HttpHeaders, bytes]] = []
        scope = self.scope(path, headers, method)
        if not webhook_at_once(scope, body, lambda *answer: told.append(answer)):
            return None
        await until(lambda: told)
        return told[0]


async def test_both_ways_give_the_same_answers(taking: Taking, store: Store) -> None:
    open_, pending = add_endpoint(store), add_endpoint(store, secret=None)
    knocking, found = Knocking(taking), []
    for endpoint_id, headers, body in (
        (open_, signed(BODY), BODY),
        (open_, signed(BODY, secret=OTHER_SECRET), BODY),
        (open_, [], BODY),
        (open_, signed(batch_body(OTHER_BATCH)), batch_body(OTHER_BATCH)),
        (pending, signed(BODY), BODY),
    ):
        path = f"/webhooks/valyu/{endpoint_id}"
        await knocking.by_task(path, headers, body, "POST")  # from now on it is a duplicate
        answer = await knocking.at_once(path, headers, body, known=endpoint_id)
        assert answer == await knocking.by_task(path, headers, body, "POST")
        found.append(answer[0])
    assert found == [200, 401, 401, 200, 503]


async def test_what_is_refused_unread_or_must_be_looked_up_is_left_to_the_other_way(
    taking: Taking, store: Store
) -> None:
    known, unknown = add_endpoint(store), add_endpoint(store)
    path, proof = f"/webhooks/valyu/{known}", signed(BODY)
    large = b"x" * (intake.INLINE_BYTES + 1)
    knocking, full = Knocking(taking), Knocking(taking, bodies=1)
    zipped = [*proof, (b"content-encoding", b"gzip")]
    assert await knocking.at_once(path, proof, BODY, known=known, method="PUT") is None
    assert await knocking.at_once(path, zipped, BODY, known=known) is None
    assert await knocking.at_once(path, signed(large), large, known=known) is None
    assert await full.at_once(path, proof, BODY, known=known) is None
    assert await knocking.at_once("/webhooks/unknown/x", proof, BODY) is None
    assert await knocking.at_once(f"/webhooks/valyu/{unknown}", proof, BODY) is None
    assert events(store) == []


async def test_what_is_in_flight_counts_until_the_answer(taking: Taking, store: Store) -> None:
    known = add_endpoint(store)
    path, knocking = f"/webhooks/valyu/{known}", Knocking(taking, bodies=len(BODY))
    for headers in (signed(BODY), [], signed(BODY)) * 2:
        assert (await knocking.at_once(path, headers, BODY, known=known))[0] in (200, 401)
    with stuck(store):
        first, second = (
            asyncio.create_task(knocking.at_once(path, signed(BODY), BODY, known=known))
            for _ in range(2)
        )
        assert await second is None
    assert (await first)[0] == STATUSES["duplicate"]


@pytest.mark.parametrize("lookup", [False, True])
async def test_an_accounts_url_is_taken_at_once_unless_the_body_is_looked_up(
    store: Store, lookup: bool
) -> None:
    async with Taking(store, signing_secrets=[OTHER_SECRET], lookup_by_body=lookup) as taking:
        headers = signed(BODY, secret=OTHER_SECRET)
        answer = await Knocking(taking).at_once("/webhooks/valyu", headers, BODY)
    assert (answer is None) is lookup


def test_a_process_that_takes_nothing_in_leaves_all_to_the_other_way() -> None:
    state = {"intake": intake.Elsewhere(), "bodies": Bodies(2**20)}
    scope = {"method": "POST", "path": "/webhooks/valyu/x", "headers": [], "state": state}
    assert not webhook_at_once(scope, BODY, lambda *_: None)
