"""A sender, a source of it and its jobs, for tests of calls, fetches, workers and batches."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest

from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.sender_api.rate_limit import LocalRateLimiter
from receiver.settings import Settings, SourceSettings
from receiver.sources import Source, configured
from receiver.work.fetch import Fetch
from receiver.work.worker import Worker
from storage import (
    FetchedBatch,
    Lease,
    Ledger,
    Store,
    VerifiedDelivery,
)
from tests.behind import execute
from tests.databases import opened as opened
from tests.databases import url_of
from tests.processes import DEADLINE
from tests.receiver.conftest import until

LISTS = "GET /deepresearch/batches/{batch_id}/tasks"
STATUSES = "GET /deepresearch/tasks/{deepresearch_id}/status"
NOT_FOUND = httpx.Response(404, json={"error": "Task not found"})
NOWHERE = "http://127.0.0.1:9/webhooks/valyu"


@pytest.fixture(scope="session")
def running_sender() -> Iterator[SandboxServer]:
    """One sandbox for all; its tasks end at once, and it sends no webhooks."""
    with serve_in_thread(Switches(duration=(0, 0), webhook=False)) as sandbox:
        yield sandbox


@pytest.fixture
def sender(running_sender: SandboxServer) -> SandboxServer:
    """The sandbox as new."""
    running_sender.reset()
    return running_sender


def a_source(url: str = "https://sender.test/v1", **settings: Any) -> Source:
    """The source `valyu`, whose sender is at `url`, practically without a rate limit."""
    given = {"api_key": "val_test", "base_url": url, "requests_per_second": 10_000.0, **settings}
    return configured(Settings(sources={"valyu": SourceSettings.model_validate(given)}))["valyu"]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def calls_of(source: Source, wire: Any) -> Calls:
    """Calls to a sender whose pauses after a 429 take no time."""
    clock = Clock()
    per_second = source.settings.requests_per_second
    limiter = LocalRateLimiter(per_second, clock=clock, sleep=clock.sleep)
    return Calls(source, wire, rate_limiter=limiter)


def answering(handler: Callable[[httpx.Request], Any]) -> httpx.AsyncClient:
    """A client whose wire ends in `handler`, for faults that the sandbox does not play."""
    return httpx.AsyncClient(transport=httpx.MockTransport(handler))


def ask(sender: SandboxServer, method: str, path: str, body: Any = None) -> Any:
    """Call the sender's API as other code does."""
    headers = {"x-api-key": "val_other"}
    response = httpx.request(
        method, sender.api_url + path, json=body, headers=headers, trust_env=False
    )
    return response.raise_for_status().json()


def a_batch(
    sender: SandboxServer, queries: Sequence[str] | int, *, url: str | None = None
) -> tuple[str, list[str]]:
    """A batch that other code created: its id, and the ids of its tasks."""
    made = ask(sender, "POST", "/deepresearch/batches", {"webhook_url": url} if url else {})
    return made["batch_id"], more_tasks(sender, made["batch_id"], queries)


def more_tasks(sender: SandboxServer, batch_id: str, queries: Sequence[str] | int) -> list[str]:
    """Adds tasks to a batch; returns their ids."""
    texts = [f"q{number}" for number in range(queries)] if isinstance(queries, int) else queries
    path = f"/deepresearch/batches/{batch_id}/tasks"
    added = ask(sender, "POST", path, {"tasks": [{"query": text} for text in texts]})
    return [task["deepresearch_id"] for task in added["tasks"]]


def announce(
    store: Store,
    subject: str,
    *,
    kind: str = "batch",
    endpoint_id: str | None = None,
    body: bytes = b"{}",
    key: str | None = None,
    awaits_end: bool = True,
    hints: Mapping[str, Any] | None = None,
) -> None:
    """Record a verified delivery that makes a fetch of `subject`, due now.

    Another body is another event, unless the key is given.
    """
    delivery = VerifiedDelivery(
        source="valyu",
        endpoint_id=endpoint_id,
        key=key or f"{kind}:{subject}:{sha256(body).hexdigest()}",
        disposition="fetch",
        subject_kind=kind,
        subject=subject,
        headers="",
        body=body,
        digest=sha256(body).digest(),
        awaits_end=awaits_end,
        hints=hints,
    )
    stored = threading.Event()
    store.deliveries.record([delivery], lambda *_: stored.set())
    assert stored.wait(DEADLINE)


def known(store: Store, batch_id: str) -> None:
    """Have the store know a batch of `valyu`, though nothing of its runs."""
    store.batches.note("valyu", FetchedBatch(batch_id, "processing", is_terminal=False))


def sql(store: Store, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Read or change rows on another connection, behind the store's back."""
    return execute(url_of(store), statement, *values)


def make_due(store: Store) -> None:
    """Let the time pass that all waiting jobs and paused sources wait for."""
    sql(store, "UPDATE jobs SET next_attempt_at = ? WHERE status = 'pending'", _ago(0))
    sql(store, "UPDATE source_state SET probe_at = ?", _ago(0))


def make_old(store: Store, minutes: float) -> None:
    """Let all jobs have been made so long ago."""
    sql(store, "UPDATE jobs SET created_at = ?", _ago(minutes))


def tried_in_vain(store: Store, minutes: float) -> None:
    """Let the first try in vain of all jobs have been so long ago, and some more have followed."""
    update = "UPDATE jobs SET failures = 4, trying_since = ?1, missing_since = ?1"
    sql(store, update, _ago(minutes))


def _ago(minutes: float) -> str:
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def taken_over(store: Store) -> None:
    """Whoever held leases has died, and another one takes over once they have run out.

    On SQLite there is one process, so that a start need not wait for that.
    """
    died(store)
    store.jobs.take_over()


def died(store: Store) -> None:
    """Whoever held leases has died, so long ago that they have run out."""
    sql(store, "UPDATE jobs SET lease_until = ? WHERE status = 'running'", _ago(1))


def jobs(store: Store, **wanted: str) -> list[dict[str, Any]]:
    """The jobs, oldest first; those whose columns have the wanted values."""
    rows = sql(store, "SELECT * FROM jobs ORDER BY id")
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def job(store: Store, **wanted: str) -> dict[str, Any]:
    """The one job that there is."""
    (found,) = jobs(store, **wanted)
    return found


def stored(store: Store) -> list[dict[str, Any]]:
    """The current results with their runs, in the order in which they were stored."""
    join = "FROM results JOIN runs ON runs.id = run_pk WHERE is_current ORDER BY results.id"
    return sql(store, f"SELECT runs.run_id, runs.batch_id, results.* {join}")


def claim(store: Store) -> Lease:
    """The one job that is due."""
    (lease,) = store.jobs.claim("valyu", limit=2)
    return lease


async def fetch(
    store: Store, source: Source, *, lease: Lease | None = None, client: Any = None
) -> str:
    """One try of the job that is due (or held)."""
    async with client or clients_for() as wire:
        return await Fetch(store, Calls(source, wire)).attempt(lease or claim(store))


@asynccontextmanager
async def working(
    store: Store, source: Source, *, client: Any = None, **options: Any
) -> AsyncIterator[Worker]:
    """A worker at work until the end of the block, which is its polite stop."""
    async with client or clients_for() as wire:
        worker = Worker(store, [source], wire, **options)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def work_off(store: Store, source: Source, *, client: Any = None) -> None:
    """Work until nothing is due; what was put off stays so."""
    async with working(store, source, client=client):
        await until(lambda: not _due(store))


def _due(store: Store) -> list[dict[str, Any]]:
    return sql(
        store,
        "SELECT id FROM jobs WHERE status = 'running'"
        " OR status = 'pending' AND next_attempt_at <= ?1 AND NOT EXISTS"
        " (SELECT 1 FROM source_state s WHERE s.source = jobs.source AND s.probe_at > ?2)",
        _ago(0),
        _ago(-0.02),  # a start has just made it due, by the clock of the server
    )


def ledger(store: Store, batch_id: str) -> Ledger:
    """The stored ledger of a batch."""
    return store.batches.ledger(batch_id)


def attempts(store: Store) -> list[str]:
    """How the attempts ended, oldest first."""
    return [row["outcome"] for row in sql(store, "SELECT outcome FROM attempts ORDER BY id")]


def in_seconds(job: dict[str, Any]) -> float:
    """How long a job still waits."""
    due = datetime.fromisoformat(job["next_attempt_at"]).replace(tzinfo=UTC)
    return (due - datetime.now(UTC)).total_seconds()


def run_named(run_id: str, **more: Any) -> dict[str, Any]:
    return {"deepresearch_id": run_id, "status": "completed", "output": "x", **more}


def a_run(request: httpx.Request, **more: Any) -> httpx.Response:
    """The completed run that a request asks for."""
    return httpx.Response(200, json=run_named(request.url.path.split("/")[-2], **more))


def batch_of_one(request: httpx.Request, counts: dict[str, int], **task: Any) -> httpx.Response:
    """A batch that has ended, and its one task."""
    if request.url.path.endswith("/tasks"):
        shown = {"deepresearch_id": "t1", "status": "completed", "output": "x", **task}
        return httpx.Response(200, json={"batch_id": "batch_1", "tasks": [shown]})
    batch = {"batch_id": "batch_1", "status": "completed", "counts": counts}
    return httpx.Response(200, json=batch)
