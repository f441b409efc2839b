"""Nothing without a token, and with one no more than it says."""

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from receiver.api import ROUTES, SCOPES, context
from receiver.telemetry import logs
from storage import Store
from tests.receiver.api.conftest import NEW, MakeProgram, Program, problem
from tests.receiver.conftest import add_endpoint, locked, stuck

EVERY = [
    (method, path.format(endpoint_id="x", batch_id="x", run_id="x"), needed)
    for path, methods in ROUTES.items()
    for method, (needed, _) in methods.items()
]
SOME_TOKEN = "rs_" + "A" * 43


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log so far, as JSON lines."""
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    yield stream
    logs.configure(json=True, stream=io.StringIO())


@pytest.mark.parametrize(("method", "path", "_scope"), EVERY)
@pytest.mark.parametrize("header", [None, "", "Basic eA==", f"Bearer {SOME_TOKEN}", SOME_TOKEN])
async def test_every_address_needs_a_valid_token(
    client: httpx.AsyncClient, method: str, path: str, _scope: str, header: str | None
) -> None:
    headers = {} if header is None else {"authorization": header}
    response = await client.request(method, f"/api/v1{path}", headers=headers)
    assert problem(response)[0] == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_unknown_address_needs_a_token_too(client: httpx.AsyncClient) -> None:
    found = [await client.get(f"/api/v1{path}") for path in ("/", "/nothing", "/endpoints")]
    assert [response.status_code for response in found] == [401] * 3
    assert len({response.text for response in found}) == 1
    assert (await client.get("/api/v1")).status_code == 404  # and no redirect


async def test_two_authorizations_are_none(client: httpx.AsyncClient, store: Store) -> None:
    header = ("authorization", f"Bearer {store.tokens.create('ci', SCOPES).text}")
    assert (await client.get("/api/v1/batches", headers=[header])).status_code == 200
    assert (await client.get("/api/v1/batches", headers=[header, header])).status_code == 401


@pytest.mark.parametrize("value", [" Bearer {}", "Bearer {} \t", "bearer  {}"])
async def test_white_space_around_a_token_is_ignored(
    client: httpx.AsyncClient, store: Store, value: str
) -> None:
    header = value.format(store.tokens.create("ci", SCOPES).text)
    response = await client.get("/api/v1/batches", headers={"authorization": header})
    assert response.status_code == 200


async def test_only_an_authorization_header_counts(client: httpx.AsyncClient, store: Store) -> None:
    text = store.tokens.create("ci", SCOPES).text
    assert (await client.get("/api/v1/batches", params={"token": text})).status_code == 401


@pytest.mark.parametrize(("method", "path", "needed"), EVERY)
async def test_each_request_needs_its_own_scope(
    program: MakeProgram, method: str, path: str, needed: str
) -> None:
    (other,) = set(SCOPES) - {needed}
    status, sentence = problem(await program(other).ask(method, path))
    assert (status, f"`resultsink token create --name NAME --scope {needed}`" in sentence) == (
        403,
        True,
    )
    assert (await program(needed).ask(method, path)).status_code != 403


async def test_revoked_token_is_refused_at_once(program: MakeProgram, store: Store) -> None:
    mine = program("read")
    assert (await mine.ask("GET", "/batches")).status_code == 200
    store.tokens.revoke(store.tokens.list_all()[0]["id"])
    assert (await mine.ask("GET", "/batches")).status_code == 401


async def test_expired_token_is_refused_as_an_invalid_one(
    client: httpx.AsyncClient, store: Store, lines: io.StringIO
) -> None:
    made = store.tokens.create("ci", SCOPES, lifetime=timedelta())
    expired, unknown = [
        await client.get("/api/v1/batches", headers={"authorization": f"Bearer {text}"})
        for text in (made.text, SOME_TOKEN)
    ]
    assert problem(expired) == problem(unknown)
    assert expired.headers.items() == unknown.headers.items()
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["event"], line["by"]) for line in logged] == [
        ("request refused: the token has expired", made.id),
        ("request refused", None),
    ]


async def test_wrong_method_lists_the_right_ones(program: MakeProgram) -> None:
    response = await program().ask("PATCH", "/endpoints/x")
    assert problem(response) == (405, "Use GET, DELETE here.")
    assert response.headers["allow"] == "GET, DELETE"
    assert problem(await program().ask("GET", "/nothing"))[0] == 404


# --- one source ---------------------------------------------------------------------------------


@pytest.fixture
def foreign(program: MakeProgram) -> Program:
    """A program of another source than the one that everything belongs to."""
    return program(source="other")


async def test_other_source_s_endpoint_is_unknown(foreign: Program, store: Store) -> None:
    theirs, secret = add_endpoint(store), {"secret": "0123456789abcdef" * 2}
    for method, end, value in (("GET", "", None), ("DELETE", "", None), ("PUT", "/secret", secret)):
        found = [
            problem(await foreign.ask(method, f"/endpoints/{name}{end}", value))
            for name in (theirs, "nowhere")
        ]
        assert found[0] == found[1]
        assert found[0][0] == 404
    (endpoint,) = store.endpoints.list_all()
    assert endpoint["state"] == "open"


async def test_another_source_is_forbidden_by_name(foreign: Program) -> None:
    made = await foreign.ask("POST", "/endpoints", {"source": "valyu", "kind": "batch"})
    assert problem(made)[0] == 403
    for path in ("/batches", "/batches/b", "/batches/b/results", "/runs/r"):
        assert problem(await foreign.ask("GET", f"{path}?source=valyu"))[0] == 403


async def test_another_sources_batches_are_not_there(foreign: Program, store: Store) -> None:
    add_endpoint(store, "b")
    assert (await foreign.ask("GET", "/batches")).json() == {"batches": []}
    for path in ("/batches/b", "/batches/b/results"):
        assert (await foreign.ask("GET", path)).status_code == 404


async def test_source_of_the_token_is_the_default(program: MakeProgram, store: Store) -> None:
    add_endpoint(store, "b")
    store.endpoints.add("other", "batch", resource="b")
    mine = program("read", source="valyu")
    assert (await mine.ask("GET", "/batches/b")).json()["source"] == "valyu"
    assert (await program().ask("GET", "/batches/b")).status_code == 404  # which one?


# --- faults and floods --------------------------------------------------------------------------


@pytest.mark.usefixtures("short_locks")
async def test_failing_database_answers_503(program: MakeProgram, store: Store) -> None:
    mine = program()
    with locked(store):
        response = await mine.ask("POST", "/endpoints", NEW)
    assert problem(response) == (503, "The database cannot be used now: try again in 5 seconds.")
    assert response.headers["retry-after"] == "5"
    assert store.endpoints.list_all() == []


async def test_hanging_database_answers_503_in_time(
    program: MakeProgram, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = program()
    monkeypatch.setattr(context, "CALL_SECONDS", 0.5)
    with stuck(store):
        response = await mine.ask("POST", "/endpoints", NEW)
    assert response.status_code == 503
    monkeypatch.setattr(context, "CALL_SECONDS", 0.0)
    assert (await mine.ask("GET", "/batches")).status_code == 503


async def test_many_refusals_log_one_line(client: httpx.AsyncClient, lines: io.StringIO) -> None:
    headers = {"authorization": f"Bearer {SOME_TOKEN}"}
    responses = [client.get("/api/v1/batches", headers=headers) for _ in range(50)]
    assert {response.status_code for response in await asyncio.gather(*responses)} == {401}
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    refused = [line for line in found if line["event"] == "request refused"]
    assert [line["status"] for line in refused] == [401]
    assert SOME_TOKEN not in lines.getvalue()
