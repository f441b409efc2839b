"""A program makes its endpoints, sets their secrets, and closes them."""

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from receiver.app import create_app
from receiver.settings import Settings, SourceSettings
from receiver.telemetry import logs
from storage import Store, now
from tests.receiver.api.conftest import NEW, PUBLIC, MakeProgram, Program, Start, problem
from tests.receiver.conftest import (
    BATCH,
    OTHER_BATCH,
    OTHER_SECRET,
    SECRET,
    add_endpoint,
    batch_body,
    signed,
)


@pytest.fixture
def mine(program: MakeProgram) -> Program:
    """A program that may register."""
    return program("register")


def secrets(store: Store, endpoint_id: str) -> list[str]:
    view = store.endpoints.find(endpoint_id)
    assert view is not None
    return [secret.text for secret in view.secrets]


# --- making -------------------------------------------------------------------------------------


async def test_an_endpoint_is_made_and_shown(mine: Program, store: Store) -> None:
    reply = await mine.ask("POST", "/endpoints", NEW)
    shown = reply.json()
    path = f"/webhooks/valyu/{shown['endpoint']}"
    assert (reply.status_code, shown) == (
        201,
        {
            "endpoint": shown["endpoint"],
            "path": path,
            "url": PUBLIC + path,
            "source": "valyu",
            "kind": "batch",
            "resource": None,
            "task_id": None,
            "state": "pending",
        },
    )
    assert (await mine.ask("GET", f"/endpoints/{shown['endpoint']}")).json() == shown
    assert [endpoint["id"] for endpoint in store.endpoints.list_all()] == [shown["endpoint"]]


async def test_an_endpoint_can_be_made_with_all_that_is_known(mine: Program, store: Store) -> None:
    shown = await mine.made(kind="task", resource="run-1", task_id="task-1", secret=SECRET)
    assert (shown["state"], shown["resource"], shown["task_id"]) == ("open", "run-1", "task-1")
    assert secrets(store, shown["endpoint"]) == [SECRET]


async def test_a_null_is_as_good_as_nothing(mine: Program) -> None:
    value = {**NEW, "resource": None, "secret": None}
    reply = await mine.ask("POST", "/endpoints", value)
    assert (reply.status_code, reply.json()["state"]) == (201, "pending")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "run"}, "Source valyu announces no such kind: use "),
        ({"kind": "account"}, "Source valyu announces no such kind: use "),
        ({"source": "nobody"}, "There is no source 'nobody' (configured: other, valyu): "),
        ({"source": None}, "The field source is missing: send it."),
        ({"kind": 1}, "The field kind is no text: put it in quotes."),
        ({"resource": "a b"}, "The field resource must be 1 to 200 printable ASCII"),
        ({"resource": ""}, "The field resource must be 1 to 200 printable ASCII"),
        ({"task_id": "x" * 201}, "The field task_id must be 1 to 200 printable ASCII"),
        ({"secret": "short"}, "The secret was not registered: the signing secret is too short"),
        ({"secret": f" {SECRET}"}, "The secret was not registered: the signing secret has spaces"),
        ({"secret": ""}, "The secret was not registered: the signing secret is empty."),
        ({"signature": SECRET}, "There is no field 'signature' here: leave it out (fields: "),
    ],
)
async def test_what_cannot_be_is_refused_by_its_name(
    mine: Program, store: Store, fields: dict[str, Any], sentence: str
) -> None:
    reply = await mine.ask("POST", "/endpoints", {**NEW, **fields})
    assert problem(reply)[0] == 422
    assert problem(reply)[1].startswith(sentence)
    assert store.endpoints.list_all() == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is no JSON (Expecting value): send one JSON object."),
        (b"[]", "The body is JSON, but no object: send one JSON object."),
        (b'{"source": NaN}', "The body holds NaN, which is no JSON: leave it out."),
        (b'{"source": "a", "source": "b"}', "The field 'source' stands twice: send it once."),
        (b'{"a\\u0000\\ud800":1,"a\\u0000\\ud800":1}', r"The field 'a\x00\ud800' stands twice"),
        (b"\xff", "The body is no JSON (not readable): send one JSON object."),
        (b"[" * 60_000, "The body is no JSON (not readable): send one JSON object."),
        (b'{"source": %s}' % (b"1" * 5_000), "The body is no JSON (not readable)"),
    ],
)
async def test_what_is_no_strict_json_is_refused(mine: Program, body: bytes, sentence: str) -> None:
    reply = await mine.ask("POST", "/endpoints", content=body)
    assert problem(reply)[0] == 400
    assert problem(reply)[1].startswith(sentence)


async def test_a_large_or_encoded_body_is_refused(mine: Program) -> None:
    large = await mine.ask("POST", "/endpoints", content=b" " * 65_537)
    assert problem(large)[0] == 413
    assert large.headers["connection"] == "close"
    body = b" " * 65_000 + json.dumps(NEW).encode()
    assert (await mine.ask("POST", "/endpoints", content=body)).status_code == 201


_TEXT = st.text(max_size=30) | st.sampled_from(["valyu", "batch", "task", SECRET, "run", ""])
_NAMES = st.sampled_from(["source", "kind", "resource", "task_id", "secret", "more"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)
_BODIES = st.binary(max_size=60) | st.builds(
    lambda value: json.dumps(value).encode(), st.dictionaries(_NAMES, _VALUES) | _VALUES
)


@given(body=_BODIES, method=st.sampled_from(["POST", "PUT"]))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_body_breaks_anything(
    mine: Program, store: Store, body: bytes, method: str
) -> None:
    endpoints = store.endpoints.list_all()
    known = endpoints[0]["id"] if endpoints else add_endpoint(store, None, secret=None)
    path = "/endpoints" if method == "POST" else f"/endpoints/{known}/secret"
    reply = await mine.client.request(method, f"/api/v1{path}", headers=mine.headers, content=body)
    assert reply.status_code < 500
    if reply.status_code >= 300:
        problem(reply)


# --- secrets ------------------------------------------------------------------------------------


async def test_the_secret_comes_later_with_what_was_made(mine: Program, store: Store) -> None:
    made = await mine.made()
    value = {"secret": SECRET, "resource": BATCH}
    reply = await mine.ask("PUT", f"/endpoints/{made['endpoint']}/secret", value)
    assert (reply.status_code, reply.json()) == (
        200,
        {**made, "state": "open", "resource": BATCH},
    )
    assert store.batches.ledger(BATCH).endpoint_id == made["endpoint"]
    body = batch_body()
    delivered = await mine.client.post(made["path"], content=body, headers=signed(body))
    assert delivered.json() == {"status": "accepted"}


async def test_the_same_secret_again_is_harmless(mine: Program, store: Store) -> None:
    endpoint_id = (await mine.made())["endpoint"]
    value = {"secret": SECRET, "resource": BATCH}
    puts = [mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", value) for _ in range(5)]
    replies = await asyncio.gather(*puts)
    assert [reply.status_code for reply in replies] == [200] * 5
    assert len({reply.text for reply in replies}) == 1
    assert secrets(store, endpoint_id) == [SECRET]
    await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": OTHER_SECRET})
    assert secrets(store, endpoint_id) == [OTHER_SECRET, SECRET]


@pytest.mark.parametrize("more", [{"resource": OTHER_BATCH}, {"task_id": "task-2"}])
async def test_an_endpoint_of_another_resource_takes_no_secret(
    mine: Program, store: Store, more: dict[str, str]
) -> None:
    made = await mine.made(resource=BATCH, task_id="task-1")
    value = {"secret": SECRET, **more}
    reply = await mine.ask("PUT", f"/endpoints/{made['endpoint']}/secret", value)
    assert problem(reply)[0] == 409
    assert secrets(store, made["endpoint"]) == []
    assert (await mine.ask("GET", f"/endpoints/{made['endpoint']}")).json() == made


async def test_a_replaced_secret_is_not_brought_back(mine: Program, store: Store) -> None:
    endpoint_id = (await mine.made(secret=SECRET))["endpoint"]
    store.endpoints.rotate_secret(endpoint_id, OTHER_SECRET, old_until=now())
    reply = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": SECRET})
    assert problem(reply) == (
        409,
        "The secret was not registered. This secret was replaced: use `endpoint rotate` to bring "
        "it back.",
    )
    assert len(secrets(store, endpoint_id)) == 2


async def test_a_sixth_secret_is_refused(mine: Program, store: Store) -> None:
    endpoint_id = (await mine.made())["endpoint"]
    values = [{"secret": f"{SECRET[:-1]}{number}"} for number in range(6)]
    path = f"/endpoints/{endpoint_id}/secret"
    codes = [(await mine.ask("PUT", path, value)).status_code for value in values]
    assert codes == [200] * 5 + [409]


@pytest.mark.parametrize("more", [{"resource": BATCH}, {"task_id": "t"}])
async def test_an_endpoint_for_the_account_is_bound_to_nothing(
    mine: Program, store: Store, more: dict[str, str]
) -> None:
    endpoint_id = store.endpoints.add("valyu", "account")
    reply = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": SECRET, **more})
    assert problem(reply)[0] == 422
    assert (secrets(store, endpoint_id), store.endpoints.list_all()[0]["resource"]) == ([], None)


async def test_an_odd_secret_is_taken_with_a_warning(store: Store, start: Start) -> None:
    sources = {"valyu": SourceSettings(signing={"scheme": "standard-webhooks"})}
    client = await start(create_app(Settings(sources=sources), store=store))
    mine = Program(client, store.tokens.create("p", ["register"]).text)
    made = await mine.made(secret=SECRET)
    assert made["warning"].startswith("The secret does not begin with whsec_")
    path = f"/endpoints/{made['endpoint']}"
    again = (await mine.ask("PUT", f"{path}/secret", {"secret": SECRET})).json()
    assert again["warning"] == made["warning"]
    assert "warning" not in (await mine.ask("GET", path)).json()


async def test_where_the_account_verifies_an_endpoint_is_open_and_bound_without_a_secret(
    store: Store, start: Start
) -> None:
    sources = {"valyu": SourceSettings(signing_secrets=[SecretStr(SECRET)])}
    client = await start(create_app(Settings(sources=sources), store=store))
    mine = Program(client, store.tokens.create("p", ["register"]).text)
    made = await mine.made()
    assert made["state"] == "open"
    path = f"/endpoints/{made['endpoint']}/secret"
    assert problem(await mine.ask("PUT", path, {}))[0] == 422
    assert problem(await mine.ask("PUT", path, {"task_id": "t"}))[0] == 422
    for _ in range(2):
        reply = await mine.ask("PUT", path, {"resource": BATCH, "task_id": "t"})
        assert (reply.json()["resource"], reply.json()["task_id"]) == (BATCH, "t")
    assert problem(await mine.ask("PUT", path, {"resource": OTHER_BATCH}))[0] == 409
    assert (secrets(store, made["endpoint"]), store.batches.ledger(BATCH).batch_id) == ([], BATCH)


async def test_without_an_account_s_secret_one_must_be_sent(mine: Program) -> None:
    path = f"/endpoints/{(await mine.made())['endpoint']}/secret"
    reply = await mine.ask("PUT", path, {"resource": BATCH})
    assert problem(reply) == (422, "The field secret is missing: send it.")


async def test_a_task_without_a_resource_is_refused(mine: Program) -> None:
    path = f"/endpoints/{(await mine.made())['endpoint']}/secret"
    status, sentence = problem(await mine.ask("PUT", path, {"secret": SECRET, "task_id": "t"}))
    assert (status, sentence[:29]) == (422, "The field resource is missing")


async def test_a_secret_of_a_source_that_is_gone_is_refused(mine: Program, store: Store) -> None:
    endpoint_id = store.endpoints.add("gone", "batch")
    reply = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": SECRET})
    assert problem(reply)[0] == 422
    assert secrets(store, endpoint_id) == []


# --- closing ------------------------------------------------------------------------------------


async def test_a_closed_endpoint_takes_nothing_and_closes_again(
    mine: Program, store: Store
) -> None:
    made = await mine.made()
    path = f"/endpoints/{made['endpoint']}"
    for _ in range(2):
        reply = await mine.ask("DELETE", path)
        assert (reply.status_code, reply.content) == (204, b"")
    assert (await mine.ask("PUT", f"{path}/secret", {"secret": SECRET})).status_code == 404
    assert (await mine.ask("GET", path)).json() == {**made, "state": "closed"}
    assert (await mine.client.post(made["path"], content=b"{}")).status_code == 404


@pytest.mark.parametrize("name", ["nowhere", "%00", "%F0%9F%98%80", "a%20b", "x" * 300])
async def test_an_endpoint_that_is_not_there_is_not_found(mine: Program, name: str) -> None:
    for method, end in (("GET", ""), ("DELETE", ""), ("PUT", "/secret")):
        value = {"secret": SECRET} if end else None
        assert problem(await mine.ask(method, f"/endpoints/{name}{end}", value))[0] == 404


async def test_what_is_done_is_logged_without_any_secret(mine: Program) -> None:
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    made = await mine.made(secret=SECRET)
    await mine.ask("PUT", f"/endpoints/{made['endpoint']}/secret", {"secret": OTHER_SECRET})
    await mine.ask("DELETE", f"/endpoints/{made['endpoint']}")
    logs.configure(json=True, stream=io.StringIO())
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    ours = [line["event"] for line in told if line["logger"] == "api"]
    assert ours == ["endpoint made", "secret set", "endpoint closed"]
    token = mine.headers["authorization"].removeprefix("Bearer ")
    for secret in (SECRET, OTHER_SECRET, token):
        assert secret not in stream.getvalue()
