"""The whole application with three sources, and programs with tokens that ask it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from receiver.app import create_app
from receiver.settings import Settings, SourceSettings
from storage import Store
from tests.receiver.conftest import SECRET

Start = Callable[[Starlette], Awaitable[httpx.AsyncClient]]

PUBLIC = "https://hooks.example.com"
NEW = {"source": "valyu", "kind": "batch"}
EITHER = ("read", "register")


class Program:
    """A client that sends a token along, and knows what no answer may hold."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self.client = client
        self.headers = {"authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, value: Any = None, **more: Any) -> httpx.Response:
        """One request below /api/v1; `value` is sent as JSON."""
        options = {"json": value, **more} if value is not None else more
        url = f"/api/v1{path}"
        response = await self.client.request(method, url, headers=self.headers, **options)
        assert SECRET not in response.text + str(response.headers)
        return response

    async def made(self, **fields: str) -> dict[str, Any]:
        """A new endpoint."""
        response = await self.ask("POST", "/endpoints", {**NEW, **fields})
        assert response.status_code == 201, response.text
        shown: dict[str, Any] = response.json()
        return shown


MakeProgram = Callable[..., Program]


@pytest.fixture
async def client(store: Store, start: Start) -> httpx.AsyncClient:
    """The application, without a token."""
    providers = {"valyu": "valyu", "other": "valyu", "legacy": "parallel-v0"}
    sources = {name: SourceSettings(provider=provider) for name, provider in providers.items()}
    return await start(create_app(Settings(public_url=PUBLIC, sources=sources), store=store))


@pytest.fixture
def program(client: httpx.AsyncClient, store: Store) -> MakeProgram:
    """Makes programs with tokens of their own."""

    def program(*scopes: str, source: str | None = None) -> Program:
        made = store.tokens.create("a program", scopes or EITHER, source=source)
        return Program(client, made.text)

    return program


def problem(response: httpx.Response) -> tuple[int, str]:
    """The status and the sentence of a refusal, whose form is looked at here for all."""
    assert response.headers["content-type"] == "application/problem+json"
    details = response.json()
    assert set(details) == {"type", "title", "status", "detail"}
    assert (details["type"], details["status"]) == ("about:blank", response.status_code)
    assert details["detail"].endswith(".")
    assert "\n" not in details["detail"]
    return response.status_code, details["detail"]
