"""Deliveries signed as Valyu signs them, and the intake that takes them in, on a real store."""

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from receiver.intake.endpoint_cache import EndpointCache
from receiver.intake.group_commit import DEADLINE_SECONDS as DEADLINE_SECONDS
from receiver.intake.group_commit import GroupCommit
from receiver.intake.intake import Intake
from receiver.intake.quarantine_writer import QuarantineWriter
from receiver.intake.target import Outcome
from receiver.settings import Settings, SourceSettings
from receiver.sources import configured
from storage import Store
from storage.database.postgres.engine import Pool
from tests import behind
from tests.databases import Files, url_of
from tests.processes import DEADLINE as DEADLINE

Headers = list[tuple[bytes, bytes]]

# Keys and ids of the samples and of nothing else.
SECRET = "5f1c0e9ab7d34826e1f07c9b2a6d8e43905b7fd1c8243ea6b09f5d7e21c4386a"  # noqa: S105
OTHER_SECRET = "c4a97e20f86b3d15924ec07ab5d8136fe2709c4b8a51d6f3073e9b1c62f8d540"  # noqa: S105
BATCH = "batch_7d1f6f0e-3c1a-4c5e-9b2e-0a4f5d8c9e21"
OTHER_BATCH = "batch_00000000-3c1a-4c5e-9b2e-0a4f5d8c9e21"
TASK = "3f0c9a52-6b7e-4d18-9a41-5c2e8f7d1b60"
SOON = DEADLINE / 5
"""Long before what holds it up would give way, and far beyond what a busy machine takes."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """uvicorn, and so the receiver, runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def template(files: Files) -> Path:
    """A folder with an empty database file and its key, to be copied."""
    return files.template


def batch_body(batch: str = BATCH, status: str = "completed", **more: Any) -> bytes:
    """A batch webhook's body, flat."""
    return json.dumps({"batch_id": batch, "status": status, **more}).encode()


def task_body(task: str = TASK, status: str = "completed", **more: Any) -> bytes:
    """A task webhook's body."""
    return json.dumps({"deepresearch_id": task, "status": status, **more}).encode()


def signed(body: bytes, *, secret: str = SECRET, at: float | None = None) -> Headers:
    """The headers of a genuine delivery, signed with code of our own."""
    stamp = str(int(time.time() if at is None else at)).encode()
    mac = hmac.digest(secret.encode(), stamp + b"." + body, hashlib.sha256).hex().encode()
    return [(b"x-webhook-timestamp", stamp), (b"x-webhook-signature", b"sha256=" + mac)]


def settings(**source: Any) -> Settings:
    """Settings with one source, `valyu`, that may call nobody."""
    return Settings(sources={"valyu": SourceSettings(**source)})


def add_endpoint(
    store: Store, resource: str | None = BATCH, *, kind: str = "batch", secret: str | None = SECRET
) -> str:
    """An endpoint of the source `valyu`; its secret is pending where it is None."""
    endpoint_id = store.endpoints.add("valyu", kind, resource=resource)
    if secret is not None:
        store.endpoints.set_secret(endpoint_id, secret)
    return endpoint_id


def events(store: Store) -> list[dict[str, Any]]:
    """Every event with its deliveries and jobs, oldest first."""
    return [{**store.events.show(event["id"])} for event in reversed(store.events.list_newest())]


def fetches(store: Store) -> list[tuple[str, str]]:
    """The subjects of the fetch jobs that are not dead, oldest first."""
    jobs = [job for event in events(store) for job in event["jobs"]]
    return [(job["subject_kind"], job["subject"]) for job in jobs if job["status"] != "dead"]


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another process holds the lock that whoever writes needs."""
    with closing(behind.Lock(url_of(store))):
        yield


@contextmanager
def stuck(store: Store) -> Iterator[None]:
    """The disk does not answer: the writer hangs in its transaction, and nobody else may write."""
    hangs, go_on = threading.Event(), threading.Event()

    def hang(_connection: object) -> None:
        hangs.set()
        go_on.wait(2 * DEADLINE)  # longer than anybody may wait for an answer

    store.database.submit(hang, lambda *_: None)
    assert hangs.wait(DEADLINE)
    with ExitStack() as stack:
        stack.callback(go_on.set)
        if store.is_shared:  # where others than the writer write too
            stack.enter_context(locked(store))
        yield


def broken(store: Store, table: str) -> AbstractContextManager[None]:
    """A table can be neither read nor written."""
    return behind.broken(url_of(store), table)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds; fail after DEADLINE."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.005)


class Taking:
    """The intake with all that it works with, at a clock of its own.

    A delivery waits for its COMMIT for as long as that takes, unless the `deadline` is another.
    """

    def __init__(self, store: Store, *, deadline: float = DEADLINE, **source: Any) -> None:
        self.store = store
        self.now = time.time()
        self.work = 0
        self.sources = configured(settings(**source))
        self.endpoints = EndpointCache(store, self.sources)
        self.quarantine_writer = QuarantineWriter(store)
        self.group_commit = GroupCommit(store, deadline=deadline)
        self.intake = Intake(
            self.sources,
            self.endpoints,
            self.group_commit,
            self.quarantine_writer,
            on_work=self._on_work,
            clock=lambda: self.now,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def _on_work(self) -> None:
        self.work += 1

    async def __aenter__(self) -> "Taking":
        runs = (self.endpoints.follow, self.quarantine_writer.run)
        self._tasks = [asyncio.create_task(run()) for run in runs]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def deliver(
        self,
        endpoint_id: str | None,
        body: bytes,
        headers: Headers | None = None,
        *,
        secret: str = SECRET,
        at: float | None = None,
    ) -> Outcome:
        """The outcome for the sender; signed now with `secret` unless `headers` say otherwise."""
        target = await self.intake.find_or_read("valyu", endpoint_id)
        if isinstance(target, Outcome):
            return target
        headers = headers or signed(body, secret=secret, at=self.now if at is None else at)
        return await self.intake.take_and_wait(target, headers, body)

    async def refusal(self) -> str:
        """The reason of the newest quarantined request, once there is one."""
        await until(self.store.quarantine.list_newest)
        reason: str = self.store.quarantine.list_newest()[0]["reason"]
        return reason


@pytest.fixture
async def taking(store: Store, request: pytest.FixtureRequest) -> AsyncIterator[Taking]:
    """The intake of a source without account-level secrets; the parameter is its deadline."""
    async with Taking(store, deadline=getattr(request, "param", DEADLINE)) as taking:
        yield taking


@pytest.fixture
async def start() -> AsyncIterator[Callable[[Starlette], Awaitable[httpx.AsyncClient]]]:
    """Starts an application until the test ends, which httpx does not do, for a client of it."""
    async with AsyncExitStack() as stack:

        async def start(app: Starlette) -> httpx.AsyncClient:
            state = await stack.enter_async_context(app.router.lifespan_context(app))

            async def started(scope: Any, receive: Any, send: Any) -> None:
                await app({**scope, "state": dict(state or {})}, receive, send)

            transport = httpx.ASGITransport(started)
            client = httpx.AsyncClient(transport=transport, base_url="http://test")
            return await stack.enter_async_context(client)

        yield start


@pytest.fixture
def short_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements give up soon where another process holds a lock; use it before the store."""
    monkeypatch.setattr("storage.database.sqlite.database.BUSY_MILLISECONDS", 200)
    make = Pool.__init__

    def make_impatient(pool: Pool, *given: Any, **limits: Any) -> None:
        make(pool, *given, **{**limits, "lock": 0.2})

    monkeypatch.setattr(Pool, "__init__", make_impatient)
