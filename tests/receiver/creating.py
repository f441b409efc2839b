"""Tasks and senders for tests of creating batches, and the sentences of refusals."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

from receiver.errors import NotDone
from receiver.providers.model import NewTask, Plan
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.sources import Source
from receiver.submissions.batches import BatchSubmissions, NewBatch
from storage import Store
from tests import behind
from tests.databases import url_of
from tests.receiver import working

PUBLIC = "http://127.0.0.1:9"
ADD = "POST /deepresearch/batches/*/tasks"
CREATE = "POST /deepresearch/batches"


def tasks(count: int) -> list[NewTask]:
    """New tasks with ids and inputs of their own."""
    rows = [{"query": f"q{number}", "row": number} for number in range(count)]
    return [NewTask(f"id{row['row']}", {**row, "id": f"id{row['row']}"}, row) for row in rows]


async def create(
    store: Store,
    source: Source,
    count: int = 1,
    *,
    client: Any = None,
    how: dict[str, Any] | None = None,
    **watched: Any,
) -> str:
    """Create a batch of so many tasks; returns its id."""
    callbacks = {"created": lambda _: None, "added": lambda _: None, **watched}
    async with client or clients_for() as wire:
        batches = BatchSubmissions(store, Calls(source, wire), PUBLIC, **(how or {}))
        return await batches.create(NewBatch(Plan("a name", "fast"), tasks(count)), **callbacks)


async def refusal(store: Store, source: Source, count: int = 1, **more: Any) -> str:
    """The sentence where the sender or our database stands in the way."""
    with pytest.raises(NotDone) as raised:
        await create(store, source, count, **more)
    return str(raised.value)


def resume_command(store: Store) -> str:
    """The command that goes on with the one submission that is not finished."""
    (known,) = store.submissions.list_all()
    return f"resultsink batch create --resume {known.id}"


@contextmanager
def locked(store: Store, *, seconds: float | None = None) -> Iterator[None]:
    """Another process's transaction, to the end of the block or for so long."""
    with closing(behind.Lock(url_of(store))) as lock:
        timer = None if seconds is None else threading.Timer(seconds, lock.release)
        if timer is not None:
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.join()


def left_behind(store: Store) -> tuple[list[str], list[str]]:
    """The states of the endpoints, and of the jobs."""
    return [each["state"] for each in store.endpoints.list_all()], [
        each["status"] for each in working.jobs(store)
    ]


def accepting(
    count: int | None, runs: list[Any], *, created: Any = None
) -> Callable[[httpx.Request], httpx.Response]:
    """A sender that answers added tasks with these runs, each an id or an object."""
    made = created or {"batch_id": "batch_1", "webhook_secret": "s" * 43}
    listed = [{"deepresearch_id": run} if isinstance(run, str) else run for run in runs]
    answer = {"batch_id": "batch_1", "tasks": listed}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/batches"):
            return httpx.Response(200, json=made)
        if request.method == "GET":  # a status before any task was added
            return httpx.Response(200, json={**made, "counts": {"total": 0}})
        return httpx.Response(200, json=answer if count is None else {**answer, "added": count})

    return handler
