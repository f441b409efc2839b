"""The bare yardstick: verify, and one statement per group into the database. Nothing else.

No limits, no logs, no quarantine, no metrics, one endpoint, one secret: what is left is what the
intake must cost at least. The event loop verifies and gathers a group; one thread writes it,
synced, and hands the group back. `bare_sqlite` and `bare_postgres` have the statements.
"""

import asyncio
import gc
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from queue import SimpleQueue
from typing import Any

import psycopg
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from starlette.types import Message, Receive, Scope, Send

from benchmarks.servers import bare_postgres, bare_sqlite

TOLERANCE = 48 * 3600
LARGEST_GROUP = 256

Row = tuple[int, float, bytes]  # key, moment, body
Group = list[tuple[Row, "asyncio.Future[None]"]]
Insert = Callable[[Sequence[Row]], None]

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"21")],
}
ACCEPTED: Message = {"type": "http.response.body", "body": b'{"status":"accepted"}'}
REFUSED: Message = {**START, "status": 401}


class Writer:
    """Writes groups in a thread of its own; the lists belong to the event loop."""

    def __init__(self, insert: Insert) -> None:
        self._insert = insert
        self._loop = asyncio.get_running_loop()
        self._groups: SimpleQueue[Group] = SimpleQueue()
        self._waiting: Group = []
        self._writing = False
        threading.Thread(target=self._write, daemon=True).start()

    async def store(self, row: Row) -> None:
        """Return when the row is on disk."""
        stored = self._loop.create_future()
        self._waiting.append((row, stored))
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._hand_over)
        await stored

    def _hand_over(self) -> None:
        """Give the writer all that waits; what comes from now on is the next group."""
        group, self._waiting = self._waiting[:LARGEST_GROUP], self._waiting[LARGEST_GROUP:]
        self._writing = bool(group)
        if group:
            self._groups.put(group)

    def _settle(self, group: Group, error: BaseException | None) -> None:
        self._hand_over()
        for _, stored in group:
            if stored.done():  # the client left
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)

    def _write(self) -> None:
        while True:
            group = self._groups.get()
            error: BaseException | None = None
            try:
                self._insert([row for row, _ in group])
            except (sqlite3.Error, psycopg.Error) as failure:
                error = failure
            self._loop.call_soon_threadsafe(self._settle, group, error)


class Intake:
    """The ASGI application."""

    def __init__(self, url: str, secret: bytes) -> None:
        self._url = url
        self._mac = HMAC(secret, SHA256())
        self._writer: Writer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one delivery, or the start and the end of the process."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = await _body(receive)
        row = self._verify(scope["headers"], body)
        if row is None:
            await send(REFUSED)
        else:
            assert self._writer is not None
            await self._writer.store(row)
            await send(START)
        await send(ACCEPTED)

    def _verify(self, headers: list[tuple[bytes, bytes]], body: bytes) -> Row | None:
        """Give the row to store, or None if the delivery is not genuine."""
        stamp = signature = b""
        for name, value in headers:
            if name == b"x-webhook-timestamp":
                stamp = value
            elif name == b"x-webhook-signature":
                signature = value
        mac = self._mac.copy()
        mac.update(stamp + b"." + body)
        now = time.time()
        if not bytes_eq(b"sha256=" + mac.finalize().hex().encode(), signature):
            return None
        if abs(now - int(stamp)) > TOLERANCE:
            return None
        return _key(json.loads(body)), now, body

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        database = bare_sqlite if self._url.startswith("sqlite") else bare_postgres
        self._writer = Writer(database.create(self._url))
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 50, 50)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


def _key(batch: dict[str, Any]) -> int:
    """Give the event key: 8 bytes over what identifies the event."""
    text = f"batch\0{batch['batch_id']}\0{batch['status']}\0{batch['completed_at']}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


def create_app() -> Intake:
    """Build the application from the environment: BENCH_DATABASE and BENCH_SECRET."""
    return Intake(os.environ["BENCH_DATABASE"], os.environ["BENCH_SECRET"].encode())
