"""By hand: the endpoint that a careful user writes.

Verify with hmac, then one SQLModel session and one commit per request in Starlette's thread pool;
a unique constraint tells duplicates; SQLite in WAL mode with synchronous=FULL, so that a 200 means
"on disk" here too; on Postgres a connection for each thread, so that none waits for one.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, create_engine
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

TOLERANCE = 48 * 3600


class Event(SQLModel, table=True):
    """A delivery as it came; the key tells whether we have it."""

    __tablename__ = "events"

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    received_at: datetime
    body: bytes


class Job(SQLModel, table=True):
    """The work that an event causes."""

    __tablename__ = "jobs"

    id: int | None = Field(default=None, primary_key=True)
    event_id: int = Field(foreign_key="events.id")
    status: str = "pending"
    next_attempt_at: datetime


THREADS = 40  # of Starlette's pool

url = os.environ["BENCH_DATABASE"]
secret = os.environ["BENCH_SECRET"].encode()
if url.startswith("sqlite"):
    engine = create_engine(url, connect_args={"timeout": 30.0})
else:
    psycopg_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(psycopg_url, pool_size=THREADS, max_overflow=0)


@event.listens_for(engine, "connect")
def set_pragmas(connection: object, _record: object) -> None:
    """Make a commit durable without blocking readers; on Postgres it is."""
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def is_genuine(timestamp: str, signature: str, body: bytes) -> bool:
    """Check the signature over the raw bytes, and that it is not too old."""
    expected = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(f"sha256={expected}".encode(), signature.encode()):
        return False
    return abs(time.time() - int(timestamp)) <= TOLERANCE


def record(batch: dict[str, Any], body: bytes) -> bool:
    """Store the event and its job; False if it was there."""
    now = datetime.now(UTC)
    key = f"{batch['batch_id']}:{batch['status']}:{batch['completed_at']}"
    with Session(engine) as session:
        stored = Event(key=key, received_at=now, body=body)
        session.add(stored)
        try:
            session.flush()
            assert stored.id is not None
            session.add(Job(event_id=stored.id, next_attempt_at=now))
            session.commit()
        except IntegrityError:
            session.rollback()
            return False
    return True


async def receive(request: Request) -> JSONResponse:
    """Verify, store, answer."""
    body = await request.body()
    timestamp = request.headers.get("x-webhook-timestamp", "")
    signature = request.headers.get("x-webhook-signature", "")
    if not is_genuine(timestamp, signature, body):
        return JSONResponse({"error": "invalid signature"}, status_code=401)
    is_new = await run_in_threadpool(record, json.loads(body), body)
    return JSONResponse({"status": "accepted" if is_new else "duplicate"})


SQLModel.metadata.create_all(engine)
app = Starlette(routes=[Route("/webhooks/{source}/{endpoint}", receive, methods=["POST"])])
