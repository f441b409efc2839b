"""A whole request that the route takes on the fast path gets the answer of the other way."""

import asyncio
from typing import Any

import pytest

from receiver.intake import intake
from receiver.intake.request_body import Bodies
from receiver.intake.routes import STATUSES, HttpHeaders, fast_path, webhook
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


class BothWays:
    """Sends the same requests both ways."""

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

    async def fast_path(
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
        answers: list[tuple[int, HttpHeaders, bytes]] = []
        scope = self.scope(path, headers, method)
        if not fast_path(scope, body, lambda *answer: answers.append(answer)):
            return None
        await until(lambda: answers)
        return answers[0]


async def test_both_ways_give_the_same_answers(taking: Taking, store: Store) -> None:
    open_, pending = add_endpoint(store), add_endpoint(store, secret=None)
    ways, found = BothWays(taking), []
    for endpoint_id, headers, body in (
        (open_, signed(BODY), BODY),
        (open_, signed(BODY, secret=OTHER_SECRET), BODY),
        (open_, [], BODY),
        (open_, signed(batch_body(OTHER_BATCH)), batch_body(OTHER_BATCH)),
        (pending, signed(BODY), BODY),
    ):
        path = f"/webhooks/valyu/{endpoint_id}"
        await ways.by_task(path, headers, body, "POST")  # from now on it is a duplicate
        answer = await ways.fast_path(path, headers, body, known=endpoint_id)
        assert answer == await ways.by_task(path, headers, body, "POST")
        found.append(answer[0])
    assert found == [200, 401, 401, 200, 503]


async def test_refusals_and_lookups_leave_fast_path(taking: Taking, store: Store) -> None:
    known, unknown = add_endpoint(store), add_endpoint(store)
    path, proof = f"/webhooks/valyu/{known}", signed(BODY)
    large = b"x" * (intake.INLINE_BYTES + 1)
    ways, full = BothWays(taking), BothWays(taking, bodies=1)
    zipped = [*proof, (b"content-encoding", b"gzip")]
    assert await ways.fast_path(path, proof, BODY, known=known, method="PUT") is None
    assert await ways.fast_path(path, zipped, BODY, known=known) is None
    assert await ways.fast_path(path, signed(large), large, known=known) is None
    assert await full.fast_path(path, proof, BODY, known=known) is None
    assert await ways.fast_path("/webhooks/unknown/x", proof, BODY) is None
    assert await ways.fast_path(f"/webhooks/valyu/{unknown}", proof, BODY) is None
    assert events(store) == []


async def test_large_body_goes_the_asgi_way(store: Store) -> None:
    async with Taking(store, max_body_bytes=1024) as taking:
        known, ways = add_endpoint(store), BothWays(taking)
        path, full, larger = f"/webhooks/valyu/{known}", BODY.ljust(1024), BODY.ljust(1025)
        assert (await ways.fast_path(path, signed(full), full, known=known))[0] == 200
        assert await ways.fast_path(path, signed(larger), larger, known=known) is None


async def test_bytes_in_flight_count_until_answer(taking: Taking, store: Store) -> None:
    known = add_endpoint(store)
    path, ways = f"/webhooks/valyu/{known}", BothWays(taking, bodies=len(BODY))
    for headers in (signed(BODY), [], signed(BODY)) * 2:
        assert (await ways.fast_path(path, headers, BODY, known=known))[0] in (200, 401)
    with stuck(store):
        first, second = (
            asyncio.create_task(ways.fast_path(path, signed(BODY), BODY, known=known))
            for _ in range(2)
        )
        assert await second is None
    assert (await first)[0] == STATUSES["duplicate"]


@pytest.mark.parametrize("lookup", [False, True])
async def test_account_url_is_taken_without_look_up(store: Store, lookup: bool) -> None:
    async with Taking(store, signing_secrets=[OTHER_SECRET], lookup_by_body=lookup) as taking:
        headers = signed(BODY, secret=OTHER_SECRET)
        answer = await BothWays(taking).fast_path("/webhooks/valyu", headers, BODY)
    assert (answer is None) is lookup
