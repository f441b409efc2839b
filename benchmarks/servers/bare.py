"""The bare yardstick: verify, and one multi-row statement per group into SQLite. Nothing else.

No limits, no logs, no quarantine, no metrics, one endpoint, one secret: what is left is what the
intake must cost at least. The event loop verifies and gathers a group; one thread writes it
(WAL, synchronous=FULL) and hands the group back; another connection checkpoints, so that no commit
waits for it. A trigger makes the job of each new event, in the same statement.
"""

import asyncio
import gc
import json
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b
from queue import SimpleQueue
from typing import Any

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from starlette.types import Message, Receive, Scope, Send

TOLERANCE = 48 * 3600
LARGEST_GROUP = 256
CHECKPOINT_EVERY = 0.1  # seconds
WAL_LIMIT = 16384  # pages (64 MB) after which writers wait once, so that the log starts again

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (id INTEGER PRIMARY KEY, key INTEGER NOT NULL UNIQUE, at REAL, body BLOB);
CREATE TABLE jobs (event INTEGER PRIMARY KEY, status INTEGER NOT NULL, due REAL NOT NULL);
CREATE TRIGGER work AFTER INSERT ON events
BEGIN INSERT INTO jobs VALUES (new.id, 0, new.at); END;
"""

Row = tuple[int, float, bytes]
Group = list[tuple[Row, "asyncio.Future[None]"]]

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"21")],
}
ACCEPTED: Message = {"type": "http.response.body", "body": b'{"status":"accepted"}'}
REFUSED: Message = {**START, "status": 401}


def connect(path: str) -> sqlite3.Connection:
    """Open a connection as the writer and the checkpoints need it."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=LARGEST_GROUP + 8)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


class Writer:
    """Writes groups in a thread of its own; the lists belong to the event loop."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._groups: SimpleQueue[Group] = SimpleQueue()
        self._waiting: Group = []
        self._writing = False
        threading.Thread(target=self._write, daemon=True).start()
        threading.Thread(target=self._checkpoint, daemon=True).start()

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
        connection = connect(self._path)
        while True:
            group = self._groups.get()
            error: BaseException | None = None
            try:
                connection.execute(_insert(len(group)), _values(group))
            except sqlite3.Error as failure:
                error = failure
            self._loop.call_soon_threadsafe(self._settle, group, error)

    def _checkpoint(self) -> None:
        connection = connect(self._path)
        while True:
            time.sleep(CHECKPOINT_EVERY)
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > WAL_LIMIT:
                connection.execute("PRAGMA wal_checkpoint(RESTART)")


def _insert(rows: int) -> str:
    values = ",".join(["(?,?,?)"] * rows)
    return f"INSERT INTO events (key, at, body) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608  (only question marks)


def _values(group: Group) -> Sequence[float | bytes]:
    return [value for row, _ in group for value in row]


class Intake:
    """The ASGI application."""

    def __init__(self, path: str, secret: bytes) -> None:
        self._path = path
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
        with sqlite3.connect(self._path) as connection:
            connection.executescript(SCHEMA)
        connection.close()
        self._writer = Writer(self._path)
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
