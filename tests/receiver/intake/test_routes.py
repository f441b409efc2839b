"""The one table of statuses that a sender sees, and what it never sees."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.intake.group_commit import DEADLINE_SECONDS
from receiver.intake.request_body import Bodies
from receiver.intake.routes import STATUSES, webhook
from storage import Store
from tests.receiver.conftest import (
    BATCH,
    DEADLINE,
    OTHER_BATCH,
    OTHER_SECRET,
    SOON,
    Headers,
    Taking,
    add_endpoint,
    batch_body,
    broken,
    events,
    fetches,
    locked,
    signed,
    stuck,
)

BODY = batch_body()
GONE = {"type": "http.disconnect"}


async def post(
    client: httpx.AsyncClient, endpoint_id: str, body: bytes = BODY, more: Headers | None = None
) -> httpx.Response:
    headers = signed(body) + (more or [])
    return await client.post(f"/webhooks/valyu/{endpoint_id}", content=body, headers=headers)


async def chunks(*parts: bytes, wait: float = 0) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(wait)
        yield part


async def request(
    state: dict[str, Any], path: str, headers: Headers, messages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what the route sends for a request as a server hands it over."""
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"method": "POST", "path": path, "headers": headers, "state": state}
    await webhook(scope, receive, send)
    return sent


def state(taking: Taking, bodies: Bodies | None = None) -> dict[str, Any]:
    return {"intake": taking.intake, "bodies": bodies or Bodies(2**20)}


@pytest.fixture
async def client(store: Store, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the webhook route alone, with a low limit for bodies.

    The parameter, if there is one, is the deadline of a delivery's COMMIT.
    """
    deadline = getattr(request, "param", DEADLINE)
    async with Taking(store, deadline=deadline, max_body_bytes=4096) as taking:

        async def route(scope: Any, receive: Any, send: Any) -> None:
            await webhook({**scope, "state": state(taking)}, receive, send)

        transport = httpx.ASGITransport(route)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


# 200.


async def test_new_and_duplicate_are_both_200(client: httpx.AsyncClient, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    responses = [await post(client, endpoint_id) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 200]
    assert [response.json() for response in responses] == [
        {"status": "accepted"},
        {"status": "duplicate"},
    ]
    assert fetches(store) == [("batch", BATCH)]


async def test_verified_unusable_is_200_and_kept(client: httpx.AsyncClient, store: Store) -> None:
    body = batch_body(OTHER_BATCH)
    response = await post(client, add_endpoint(store), body)
    assert (response.status_code, response.json()) == (200, {"status": "accepted"})
    assert events(store)[0]["deliveries"][0]["body"] == body
    assert len(store.jobs.list_dead()) == 1


# 404, 405, 401.


@pytest.mark.parametrize("path", ["/webhooks/unknown/x", "/webhooks/valyu", "/webhooks/valyu/x"])
async def test_unknown_place_is_404(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, content=BODY, headers=signed(BODY))
    assert (response.status_code, response.json()) == (404, {"error": "not found"})


async def test_a_closed_endpoint_is_not_found(client: httpx.AsyncClient, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    store.endpoints.close(endpoint_id)
    assert (await post(client, endpoint_id)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_post_is_taken(client: httpx.AsyncClient, store: Store, method: str) -> None:
    response = await client.request(method, f"/webhooks/valyu/{add_endpoint(store)}")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_all_failed_proofs_answer_identically(
    client: httpx.AsyncClient, store: Store
) -> None:
    url = f"/webhooks/valyu/{add_endpoint(store)}"
    attempts: list[Headers] = [
        [],
        signed(BODY, secret=OTHER_SECRET),
        signed(BODY, at=time.time() - 10**6),
        signed(b"another"),
        [(b"x-webhook-signature", b"\xff"), (b"x-webhook-timestamp", b"now")],
    ]
    responses = [await client.post(url, content=BODY, headers=headers) for headers in attempts]
    assert {response.status_code for response in responses} == {401}
    assert {(response.content, str(response.headers)) for response in responses} == {
        (b'{"error": "unauthorized"}', str(responses[0].headers))
    }
    assert events(store) == []


# 413, 415, 408: refused, never cut, and the connection ends.


@pytest.mark.parametrize("how", ["declared", "streamed", "lied"])
async def test_body_over_limit_refused_despite_declaration(
    client: httpx.AsyncClient, store: Store, how: str
) -> None:
    body = b"x" * 5000
    content: Any = body if how == "declared" else chunks(body[:3000], body[3000:])
    headers = signed(body) + ([(b"content-length", b"5")] if how == "lied" else [])
    url = f"/webhooks/valyu/{add_endpoint(store)}"
    response = await client.post(url, content=content, headers=headers)
    assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert events(store) == store.quarantine.list_newest() == []


async def test_body_at_the_limit_is_accepted(client: httpx.AsyncClient, store: Store) -> None:
    body = b"x" * 4096
    assert (await post(client, add_endpoint(store), body)).status_code == 200
    assert events(store)[0]["deliveries"][0]["body"] == body


@pytest.mark.parametrize(
    ("encoding", "status"),
    [("gzip", 415), ("br, identity", 415), ("x", 415), ("identity", 200), ("Identity ", 200)],
)
async def test_only_plain_bodies_are_taken(
    client: httpx.AsyncClient, store: Store, encoding: str, status: int
) -> None:
    response = await post(
        client, add_endpoint(store), more=[(b"content-encoding", encoding.encode())]
    )
    assert (response.status_code, len(events(store))) == (status, status == 200)
    assert response.headers.get("connection") == ("close" if status == 415 else None)


async def test_slow_body_is_408(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    slow = [{"type": "http.request", "body": b"{", "more_body": True}]
    path = f"/webhooks/valyu/{endpoint_id}"
    start, _ = await request(state(taking, Bodies(2**20, seconds=0.05)), path, signed(BODY), slow)
    assert (start["status"], (b"connection", b"close") in start["headers"]) == (408, True)


async def test_leaving_before_body_end_gets_nothing(taking: Taking, store: Store) -> None:
    path = f"/webhooks/valyu/{add_endpoint(store)}"
    part = {"type": "http.request", "body": BODY[:5], "more_body": True}
    assert await request(state(taking), path, signed(BODY), [part, GONE]) == []
    assert events(store) == []


# 503 with Retry-After.


def assert_told_to_try_again(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("client", [DEADLINE_SECONDS], indirect=True)
@pytest.mark.parametrize("fault", [locked, stuck], ids=["locked", "stuck"])
async def test_stuck_writer_answers_within_two_seconds(
    client: httpx.AsyncClient, store: Store, fault: Any
) -> None:
    endpoint_id = add_endpoint(store)
    with fault(store):
        began = time.monotonic()
        replies = await asyncio.gather(*[post(client, endpoint_id) for _ in range(3)])
        assert time.monotonic() - began < SOON
    for reply in replies:
        assert_told_to_try_again(reply)
    async with asyncio.timeout(DEADLINE):
        while (await post(client, endpoint_id)).status_code != 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("table", ["endpoints", "events"])
async def test_failing_database_answers_503_and_recovers(
    client: httpx.AsyncClient, store: Store, table: str
) -> None:
    endpoint_id = add_endpoint(store)
    with broken(store, table):
        assert_told_to_try_again(await post(client, endpoint_id))
    assert (await post(client, endpoint_id)).json() == {"status": "accepted"}


async def test_pending_secret_answers_503(client: httpx.AsyncClient, store: Store) -> None:
    assert_told_to_try_again(await post(client, add_endpoint(store, secret=None)))


async def test_overload_answers_503(taking: Taking, store: Store) -> None:
    path = f"/webhooks/valyu/{add_endpoint(store)}"
    bodies = Bodies(100)
    half = {"type": "http.request", "body": b"x" * 80, "more_body": True}
    first = asyncio.create_task(request(state(taking, bodies), path, [], [half]))
    while not bodies._in_flight:
        await asyncio.sleep(0.01)
    whole = {"type": "http.request", "body": BODY}
    start, _ = await request(state(taking, bodies), path, signed(BODY), [dict(whole)])
    assert start["status"] == 503
    assert {name for name, _ in start["headers"]} >= {b"retry-after", b"connection"}
    first.cancel()


async def test_in_flight_is_released_after_answer(taking: Taking, store: Store) -> None:
    path, bodies = f"/webhooks/valyu/{add_endpoint(store)}", Bodies(2 * len(BODY))
    for headers in (signed(BODY), [], signed(BODY)) * 3:
        whole = {"type": "http.request", "body": BODY}
        start, _ = await request(state(taking, bodies), path, headers, [whole])
        assert start["status"] in (200, 401)


# Never.

field = st.binary(max_size=60)
names = st.sampled_from(
    [
        *(b"x-webhook-signature", b"x-webhook-timestamp", b"content-length", b"content-encoding"),
        *(b"transfer-encoding", b"content-type", b"host", b"authorization"),
    ]
)


@given(
    path=st.sampled_from(["open", "pending"]) | st.text().map("/webhooks/valyu/".__add__),
    headers=st.lists(st.tuples(names | field, field), max_size=6),
    body=st.lists(field, min_size=1, max_size=4),
    genuine=st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_nothing_that_comes_in_breaks_us(
    taking: Taking, store: Store, path: str, headers: Headers, body: list[bytes], genuine: bool
) -> None:
    if path in ("open", "pending"):
        secret = None if path == "pending" else OTHER_SECRET
        path = f"/webhooks/valyu/{add_endpoint(store, secret=secret)}"
    proof = signed(b"".join(body), secret=OTHER_SECRET) if genuine else []
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    messages[-1]["more_body"] = False
    start, content = await request(state(taking), path, proof + headers, messages)
    assert start["status"] in {*STATUSES.values()} - {405, 408}
    assert set(json.loads(content["body"])) <= {"status", "error"}
