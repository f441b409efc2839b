"""Results as a stream: flat in memory, no faster than the reader, and never half as if whole."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from receiver.api import Api, ApiContext, result_stream
from receiver.intake.request_body import Bodies
from storage import CannotStore, Store
from storage.export import rows
from tests.behind import execute
from tests.databases import settings, url_of
from tests.processes import Receiver, serving
from tests.receiver.api.test_batches import fill
from tests.receiver.conftest import until

PATH = "/api/v1/batches/b/results"


class Reader:
    """A program that reads results as a server sees it: it may be slow, or leave."""

    def __init__(self, store: Store, *, context: ApiContext | None = None) -> None:
        self.context = context or ApiContext(store, {}, Bodies(2**20), public_url=None)
        self.token = store.tokens.create("a reader", ["read"]).text
        self.starts: list[Any] = []
        self.bytes = 0
        self.whole = False
        self.goes_on = asyncio.Event()
        self.leaves = asyncio.Event()
        self.goes_on.set()

    async def read(self) -> None:
        """Read until the end, or until the application breaks."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": PATH,
            "root_path": "/api/v1",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {self.token}".encode())],
            "state": {"api": self.context},
        }
        await Api()(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.starts.append(message)
            return
        await self.goes_on.wait()
        self.bytes += len(message["body"])
        self.whole = not message.get("more_body", False)


@pytest.fixture
def reader(store: Store) -> Reader:
    """One of a batch with 100 results of 50 kB, two to a page."""
    fill(store, *(f"r{number}" for number in range(100)), sources=["x" * 50_000])
    return Reader(store)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_CHARACTERS", 100_000)


async def test_many_results_in_constant_memory(reader: Reader) -> None:
    tracemalloc.start()
    await reader.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.whole
    assert reader.bytes > 100 * 50_000
    assert peak < reader.bytes / 3


async def test_slow_reader_holds_one_page(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []
    take = rows.Snapshot._page

    def counted(*args: Any, **more: Any) -> Any:
        pages.append(1)
        return take(*args, **more)

    monkeypatch.setattr(rows.Snapshot, "_page", counted)
    reader.goes_on.clear()
    reading = asyncio.create_task(reader.read())
    await until(lambda: pages)
    await asyncio.sleep(0.1)
    assert len(pages) == 1
    reader.goes_on.set()
    await reading
    assert (reader.whole, len(pages) > 10) == (True, True)


async def test_nothing_runs_on_for_who_leaves(reader: Reader) -> None:
    reader.goes_on.clear()
    reading = asyncio.create_task(reader.read())
    await until(lambda: reader.starts)
    reader.leaves.set()
    await reading
    assert (reader.context.streams, reader.whole) == (0, False)


async def test_who_takes_nothing_is_cut_off(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_stream, "STALL_SECONDS", 0.05)
    reader.goes_on.clear()
    with pytest.raises(TimeoutError):
        await reader.read()
    assert (reader.context.streams, reader.whole) == (0, False)


async def test_streams_are_limited(
    reader: Reader, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_stream, "MAX_STREAMS", 1)
    reader.goes_on.clear()
    reading = asyncio.create_task(reader.read())
    await until(lambda: reader.starts)
    other = Reader(store, context=reader.context)
    await other.read()
    assert (other.starts[0]["status"], other.whole) == (503, True)
    assert (b"retry-after", b"5") in other.starts[0]["headers"]
    reader.goes_on.set()
    await reading
    assert reader.whole


async def test_broken_stream_has_no_end(reader: Reader, store: Store) -> None:
    reader.goes_on.clear()
    reading = asyncio.create_task(reader.read())
    await until(lambda: reader.starts)
    execute(url_of(store), "ALTER TABLE results RENAME TO away")
    reader.goes_on.set()
    with pytest.raises((CannotStore, DBAPIError)):
        await reading
    assert (reader.starts[0]["status"], reader.whole) == (200, False)


# --- over a real connection ---------------------------------------------------------------------


@pytest.fixture
def serves(store: Store, database_url: str, tmp_path: Path) -> Iterator[tuple[Receiver, str]]:
    """A process that serves 20 MB of results of the batch, and a token."""
    fill(store, *(f"r{number}" for number in range(40)), sources=["x" * 500_000])
    token = store.tokens.create("a reader", ["read"]).text
    store.close()
    with serving(tmp_path / "log", settings(database_url)) as receiver:
        yield receiver, token


def test_a_client_tells_half_from_all(serves: tuple[Receiver, str], store: Store) -> None:
    receiver, token = serves
    headers = {"authorization": f"Bearer {token}"}
    with httpx.stream("GET", receiver.url + PATH, headers=headers, trust_env=False) as response:
        run_ids = [json.loads(line)["run_id"] for line in response.iter_lines()]
    assert run_ids == [f"r{number}" for number in range(40)]
    with httpx.stream("GET", receiver.url + PATH, headers=headers, trust_env=False) as response:
        pieces = response.iter_bytes()
        assert b"r0" in next(pieces)
        execute(url_of(store), "ALTER TABLE results RENAME TO away")
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed"):
            list(pieces)
    assert token not in receiver.log.read_text()
