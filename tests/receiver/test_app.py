"""The application as a whole: it starts, answers, and lets go of everything at its end."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.applications import Starlette

import storage
from receiver import health
from receiver.app import Role, _beside, create_app, open_store
from receiver.errors import UsageError
from receiver.settings import Settings
from storage import CannotOpen, Store
from tests import databases
from tests.behind import execute
from tests.processes import Receiver
from tests.receiver.conftest import (
    DEADLINE,
    SOON,
    add_endpoint,
    batch_body,
    broken,
    events,
    locked,
    settings,
    signed,
    until,
)

Start = Callable[[Starlette], Awaitable[httpx.AsyncClient]]
BODY = batch_body()


@pytest.fixture
async def client(store: Store, start: Start) -> httpx.AsyncClient:
    """A client of the whole application on the store of this test."""
    return await start(create_app(settings(), store=store))


async def post(client: httpx.AsyncClient, path: str) -> httpx.Response:
    return await client.post(path, content=BODY, headers=signed(BODY))


async def test_webhook_is_accepted_and_fetched(client: httpx.AsyncClient, store: Store) -> None:
    path = f"/webhooks/valyu/{add_endpoint(store)}"
    outcomes = [(await post(client, path)).json()["status"] for _ in range(2)]
    assert outcomes == ["accepted", "duplicate"]
    await until(lambda: events(store)[0]["attempts"])  # the worker was notified
    assert events(store)[0]["attempts"][0]["outcome"] == "paused"  # it has no API key


async def test_account_url_ends_after_source(store: Store, start: Start) -> None:
    secret = "5f1c0e9ab7d34826e1f07c9b2a6d8e43905b7fd1c8243ea6b09f5d7e21c4386a"  # noqa: S105
    client = await start(create_app(settings(signing_secrets=[secret]), store=store))
    assert (await post(client, "/webhooks/valyu")).json() == {"status": "accepted"}
    assert (await post(client, "/webhooks/elsewhere")).status_code == 404


@given(tail=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=20))
@examples(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_path_redirects_or_breaks(client: httpx.AsyncClient, tail: str) -> None:
    for before in ("/webhooks/", "/webhooks/valyu/", "/"):
        url = httpx.URL("http://test").copy_with(raw_path=before.encode() + _escaped(tail))
        response = await client.post(url, content=BODY)
        assert response.status_code in (404, 405)


def _escaped(text: str) -> bytes:
    return "".join(f"%{byte:02x}" for byte in text.encode()).encode()


@pytest.mark.parametrize("path", ["/webhooks/valyu/{}/", "/webhooks/valyu//{}", "//webhooks/{}"])
async def test_extra_slash_is_no_redirect(
    client: httpx.AsyncClient, store: Store, path: str
) -> None:
    response = await post(client, path.format(add_endpoint(store)))
    assert response.status_code == 404


async def test_alive_and_ready_are_told_apart(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READY_SECONDS", 0.0)
    assert (await client.get("/healthz")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    with broken(store, "meta"):
        assert (await client.get("/healthz")).status_code == 200
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "not ready")


async def test_read_only_database_is_not_ready(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READY_WITHIN_SECONDS", 0.5)
    with locked(store):
        assert store.events.list_newest() == []
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "not ready")


async def test_what_is_ready_has_written_something(
    client: httpx.AsyncClient, database_url: str
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    assert execute(database_url, "SELECT 1 FROM meta WHERE key LIKE 'probe%'")


async def test_readiness_writes_once_a_second(client: httpx.AsyncClient, store: Store) -> None:
    assert (await client.get("/readyz")).status_code == 200
    with broken(store, "meta"):
        responses = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))
    assert {response.status_code for response in responses} == {200}


async def test_foreign_change_felt_within_two_seconds(
    client: httpx.AsyncClient, store: Store, database_url: str
) -> None:
    endpoint_id = add_endpoint(store)
    assert (await post(client, f"/webhooks/valyu/{endpoint_id}")).status_code == 200
    with databases.opened(database_url) as other:
        other.endpoints.close(endpoint_id)
    began = time.monotonic()
    while (await post(client, f"/webhooks/valyu/{endpoint_id}")).status_code != 404:
        assert time.monotonic() - began < SOON
        await asyncio.sleep(0.05)


async def test_store_is_opened_unless_given(database_url: str, start: Start) -> None:
    app = create_app(Settings.model_validate(databases.settings(database_url)))
    with databases.opened(database_url) as beside:
        async with app.router.lifespan_context(app):
            assert beside.is_served()
        assert not beside.is_served()
    with databases.opened(database_url, serve=True) as again:
        app = create_app(Settings(), store=again)
        async with app.router.lifespan_context(app):
            pass
        again.probe()


@pytest.mark.sqlite
async def test_second_process_cannot_serve_same_file(database_url: str) -> None:
    app = create_app(Settings(database_url=database_url))
    async with app.router.lifespan_context(app):
        with pytest.raises(storage.AlreadyServed):
            storage.open(database_url, serve=True)
    storage.open(database_url, serve=True).close()  # the claim is free


async def test_unopenable_database_stops_the_start(start: Start) -> None:
    with pytest.raises(CannotOpen, match="does not exist"):
        await start(create_app(Settings(database_url="sqlite:////nowhere/at/all.db")))


async def test_encryption_keys_of_settings_are_used(database_url: str) -> None:
    key = storage.new_key()
    with pytest.raises(storage.WrongKey):
        open_store(Settings(database_url=database_url, encryption_keys=[SecretStr(key)]))


def test_impossible_source_stops_the_start() -> None:
    with pytest.raises(UsageError, match=r"sources\.valyu\.signing is wrong"):
        create_app(settings(signing={"algorithm": "md5"}))


async def test_a_worker_sends_webhooks_elsewhere(store: Store, start: Start) -> None:
    shared = Settings(database_url="postgresql://nowhere/x", sources=settings().sources)
    app = create_app(shared, store=store, role=Role.WORKER)
    assert not hasattr(app, "fast_path")
    client, path = await start(app), f"/webhooks/valyu/{add_endpoint(store)}"
    answer = await post(client, path)
    assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
    assert answer.headers["retry-after"] == "5"
    assert (await client.get(path)).status_code == 405
    assert (await client.post("/webhooks")).status_code == 404
    assert events(store) == []


async def test_garbage_collection_is_restored(store: Store) -> None:
    before, app = gc.get_threshold(), create_app(settings(), store=store)
    async with app.router.lifespan_context(app):
        assert gc.get_threshold() != before
        assert gc.get_freeze_count() > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


async def test_broken_part_is_reported_with_its_error() -> None:
    async def breaks() -> None:
        raise ZeroDivisionError

    errors: list[BaseException] = []
    async with _beside(breaks, on_break=errors.append):
        await until(lambda: errors)
    assert isinstance(errors[0], ZeroDivisionError)


def test_broken_part_ends_process_as_failure(database_url: str, tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "log", databases.settings(database_url))
    receiver.start()
    assert receiver.process is not None
    execute(
        database_url,
        "INSERT INTO meta (key, value) VALUES ('endpoints_revision', 'no number')"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    assert receiver.process.wait(DEADLINE) == 1
    sentence = (
        "A part of the service broke (ValueError): see the log for where, then start it again."
    )
    assert f"resultsink: {sentence}" in receiver.log.read_text().splitlines()
