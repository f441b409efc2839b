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

# No SQL is at stake: the verbs of the store are tested on both databases in tests/storage.
pytestmark = pytest.mark.one_database

LEGACY = {"source": "legacy", "kind": "batch", "task_id": "task-1"}
"""An endpoint below a stored task."""


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
    response = await mine.ask("POST", "/endpoints", NEW)
    shown = response.json()
    path = f"/webhooks/valyu/{shown['endpoint']}"
    assert (response.status_code, shown) == (
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


async def test_endpoint_with_all_fields(mine: Program, store: Store) -> None:
    shown = await mine.made(**{**LEGACY, "kind": "run"}, resource="run-1", secret=SECRET)
    assert (shown["state"], shown["resource"], shown["task_id"]) == ("open", "run-1", "task-1")
    assert secrets(store, shown["endpoint"]) == [SECRET]


async def test_null_counts_as_missing(mine: Program) -> None:
    value = {**NEW, "resource": None, "secret": None}
    response = await mine.ask("POST", "/endpoints", value)
    assert (response.status_code, response.json()["state"]) == (201, "pending")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "run"}, "Source valyu announces no run: use kind batch or contents or task."),
        ({"kind": "account"}, "Source valyu announces no account: use kind batch or "),
        ({"task_id": "t"}, "Source valyu has no stored tasks: leave the task out."),
        ({"source": "nobody"}, "There is no source 'nobody' (configured: legacy, other, valyu): "),
        ({"source": None}, "The field source is missing: send it."),
        ({"kind": 1}, "The field kind is no text: put it in quotes."),
        ({"resource": "a b"}, "The field resource must be 1 to 200 printable ASCII"),
        ({"resource": ""}, "The field resource must be 1 to 200 printable ASCII"),
        ({"task_id": "x" * 201}, "The field task_id must be 1 to 200 printable ASCII"),
        ({"secret": "short"}, "The secret was not registered: the signing secret is too short"),
        ({"secret": f" {SECRET}"}, "The secret was not registered: the signing secret has spaces"),
        ({"secret": ""}, "The secret was not registered: the signing secret is empty."),
        ({"signature": SECRET}, "There is no field 'signature' here: leave it out (fields: "),
        ({"source": None, "sorce": "valyu"}, "There is no field 'sorce' here: leave it out"),
        ({"\ud800": 1}, r"There is no field '\ud800' here: leave it out (fields: source, kind"),
        ({"secret": f"{SECRET}\ud800"}, "The secret was not registered: the signing secret has"),
    ],
)
async def test_wrong_field_is_named(
    mine: Program, store: Store, fields: dict[str, Any], sentence: str
) -> None:
    body = json.dumps({**NEW, **fields})  # as ASCII: httpx sends no lone surrogate
    response = await mine.ask("POST", "/endpoints", content=body)
    assert problem(response)[0] == 422
    assert problem(response)[1].startswith(sentence)
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
async def test_lax_json_is_refused(mine: Program, body: bytes, sentence: str) -> None:
    response = await mine.ask("POST", "/endpoints", content=body)
    assert problem(response)[0] == 400
    assert problem(response)[1].startswith(sentence)


async def test_large_body_is_refused(mine: Program) -> None:
    large = await mine.ask("POST", "/endpoints", content=b" " * 65_537)
    assert problem(large)[0] == 413
    assert large.headers["connection"] == "close"
    body = b" " * 65_000 + json.dumps(NEW).encode()
    assert (await mine.ask("POST", "/endpoints", content=body)).status_code == 201


_ODD = st.sampled_from(["valyu", "batch", "task", SECRET, "run", "", "\ud800"])
_TEXT = st.text(max_size=30) | _ODD
_NAMES = st.sampled_from(["source", "kind", "resource", "task_id", "secret", "more", "\ud800"])
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
    url = f"/api/v1{path}"
    response = await mine.client.request(method, url, headers=mine.headers, content=body)
    assert response.status_code < 500
    if response.status_code >= 300:
        problem(response)


# --- secrets ------------------------------------------------------------------------------------


async def test_secret_comes_later_with_the_resource(mine: Program, store: Store) -> None:
    made = await mine.made()
    value = {"secret": SECRET, "resource": BATCH}
    response = await mine.ask("PUT", f"/endpoints/{made['endpoint']}/secret", value)
    assert (response.status_code, response.json()) == (
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
    responses = await asyncio.gather(*puts)
    assert [response.status_code for response in responses] == [200] * 5
    assert len({response.text for response in responses}) == 1
    assert secrets(store, endpoint_id) == [SECRET]
    await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": OTHER_SECRET})
    assert secrets(store, endpoint_id) == [OTHER_SECRET, SECRET]


@pytest.mark.parametrize("more", [{"resource": OTHER_BATCH}, {"task_id": "task-2"}])
async def test_secret_for_another_resource_is_refused(
    mine: Program, store: Store, more: dict[str, str]
) -> None:
    made = await mine.made(**LEGACY, resource=BATCH)
    value = {"secret": SECRET, **more}
    response = await mine.ask("PUT", f"/endpoints/{made['endpoint']}/secret", value)
    assert problem(response)[0] == 409
    assert secrets(store, made["endpoint"]) == []
    assert (await mine.ask("GET", f"/endpoints/{made['endpoint']}")).json() == made


async def test_replaced_secret_is_refused(mine: Program, store: Store) -> None:
    endpoint_id = (await mine.made(secret=SECRET))["endpoint"]
    store.endpoints.rotate_secret(endpoint_id, OTHER_SECRET, old_until=now())
    response = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": SECRET})
    assert problem(response) == (
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


@pytest.mark.parametrize("secret", [{}, {"secret": SECRET}])
@pytest.mark.parametrize("more", [{"resource": BATCH}, {"task_id": "t"}])
async def test_account_endpoint_takes_no_resource(
    mine: Program, store: Store, secret: dict[str, str], more: dict[str, str]
) -> None:
    endpoint_id = store.endpoints.add("valyu", "account")
    response = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {**secret, **more})
    assert problem(response) == (
        422,
        "An endpoint for the account is for no single resource: leave it out.",
    )
    assert (secrets(store, endpoint_id), store.endpoints.list_all()[0]["resource"]) == ([], None)


async def test_odd_secret_gets_a_warning(store: Store, start: Start) -> None:
    sources = {"valyu": SourceSettings(signing={"scheme": "standard-webhooks"})}
    client = await start(create_app(Settings(sources=sources), store=store))
    mine = Program(client, store.tokens.create("p", ["register"]).text)
    made = await mine.made(secret=SECRET)
    assert made["warning"].startswith("The secret does not begin with whsec_")
    path = f"/endpoints/{made['endpoint']}"
    again = (await mine.ask("PUT", f"{path}/secret", {"secret": SECRET})).json()
    assert again["warning"] == made["warning"]
    assert "warning" not in (await mine.ask("GET", path)).json()


async def test_account_secrets_allow_binding_alone(store: Store, start: Start) -> None:
    given = SourceSettings(provider="parallel-v0", signing_secrets=[SecretStr(SECRET)])
    client = await start(create_app(Settings(sources={"legacy": given}), store=store))
    mine = Program(client, store.tokens.create("p", ["register"]).text)
    made = await mine.made(source="legacy")
    assert made["state"] == "open"
    path = f"/endpoints/{made['endpoint']}/secret"
    assert problem(await mine.ask("PUT", path, {}))[0] == 422
    assert problem(await mine.ask("PUT", path, {"task_id": "t"}))[0] == 422
    for _ in range(2):
        response = await mine.ask("PUT", path, {"resource": BATCH, "task_id": "t"})
        assert (response.json()["resource"], response.json()["task_id"]) == (BATCH, "t")
    assert problem(await mine.ask("PUT", path, {"resource": OTHER_BATCH}))[0] == 409
    assert (secrets(store, made["endpoint"]), store.batches.ledger(BATCH).batch_id) == ([], BATCH)


async def test_secret_must_be_sent(mine: Program) -> None:
    path = f"/endpoints/{(await mine.made())['endpoint']}/secret"
    response = await mine.ask("PUT", path, {"resource": BATCH})
    assert problem(response) == (422, "The field secret is missing: send it.")


async def test_task_id_needs_a_resource(mine: Program) -> None:
    endpoint_id = (await mine.made(source="legacy", kind="run"))["endpoint"]
    value = {"secret": SECRET, "task_id": "t"}
    response = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", value)
    assert problem(response)[0] == 422
    assert problem(response)[1].startswith("The resource is missing:")


async def test_only_stored_tasks_are_bound_to(mine: Program, store: Store) -> None:
    endpoint_id = (await mine.made(resource=BATCH))["endpoint"]
    value = {"secret": SECRET, "task_id": "t"}
    response = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", value)
    assert problem(response) == (422, "Source valyu has no stored tasks: leave the task out.")
    assert secrets(store, endpoint_id) == []


async def test_secret_for_a_removed_source_is_refused(mine: Program, store: Store) -> None:
    endpoint_id = store.endpoints.add("gone", "batch")
    response = await mine.ask("PUT", f"/endpoints/{endpoint_id}/secret", {"secret": SECRET})
    assert problem(response)[0] == 422
    assert secrets(store, endpoint_id) == []


# --- closing ------------------------------------------------------------------------------------


async def test_closing_twice_is_harmless(mine: Program, store: Store) -> None:
    made = await mine.made()
    path = f"/endpoints/{made['endpoint']}"
    for _ in range(2):
        response = await mine.ask("DELETE", path)
        assert (response.status_code, response.content) == (204, b"")
    assert (await mine.ask("PUT", f"{path}/secret", {"secret": SECRET})).status_code == 404
    assert (await mine.ask("GET", path)).json() == {**made, "state": "closed"}
    assert (await mine.client.post(made["path"], content=b"{}")).status_code == 404


@pytest.mark.parametrize("name", ["nowhere", "%00", "%F0%9F%98%80", "a%20b", "x" * 300])
async def test_unknown_endpoint_is_not_found(mine: Program, name: str) -> None:
    for method, end in (("GET", ""), ("DELETE", ""), ("PUT", "/secret")):
        value = {"secret": SECRET} if end else None
        assert problem(await mine.ask(method, f"/endpoints/{name}{end}", value))[0] == 404


async def test_log_lines_hold_no_secret(mine: Program) -> None:
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    made = await mine.made(secret=SECRET)
    await mine.ask("PUT", f"/endpoints/{made['endpoint']}/secret", {"secret": OTHER_SECRET})
    await mine.ask("DELETE", f"/endpoints/{made['endpoint']}")
    logs.configure(json=True, stream=io.StringIO())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    ours = [line["event"] for line in lines if line["logger"] == "api"]
    assert ours == ["endpoint made", "secret set", "endpoint closed"]
    token = mine.headers["authorization"].removeprefix("Bearer ")
    for secret in (SECRET, OTHER_SECRET, token):
        assert secret not in stream.getvalue()
