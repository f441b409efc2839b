"""Batches made as a person makes them: by the product's own use case, beside the receiver."""

import asyncio
import json
from contextlib import closing
from typing import Any

import httpx

import storage
from receiver.app import open_store
from receiver.cli.opening import batches_of
from receiver.providers.model import NewTask, Plan
from receiver.sandbox import SandboxServer
from receiver.submissions.batches import NewBatch
from tests.chaos.processes import KEY, Receiver
from tests.chaos.sending import Endpoint


def create(receiver: Receiver, name: str, *, tasks: int) -> str:
    """Create a batch with so many tasks; opens the store for as long as that takes."""
    settings = receiver.as_settings()
    wanted = [_task(f"{name} question {number}") for number in range(tasks)]
    with closing(open_store(settings)) as store:
        return asyncio.run(_create(store, settings, NewBatch(Plan(name, "fast"), wanted)))


def _task(query: str) -> NewTask:
    return NewTask(None, {"query": query}, {"query": query})


async def _create(store: storage.Store, settings: Any, new: NewBatch) -> str:
    async with batches_of(store, settings, "valyu") as batches:
        return await batches.create(new, created=lambda _: None, added=lambda _: None)


def endpoint_of(receiver: Receiver, batch_id: str) -> Endpoint:
    """Return the endpoint of a batch, with its secret."""
    with closing(open_store(receiver.as_settings())) as store:
        found = store.endpoints.find_by_resource("valyu", batch_id)
    assert found is not None
    return Endpoint(f"/webhooks/valyu/{found.id}", found.secrets[0].text, batch_id)


def batch_at_sender(sandbox: SandboxServer, batch_id: str) -> bytes:
    """The batch as the sender shows it, byte by byte."""
    return _get(sandbox, f"/deepresearch/batches/{batch_id}").content


def has_ended(sandbox: SandboxServer, batch_id: str) -> bool:
    """Return True once all runs of a batch have ended at the sender."""
    return bool(json.loads(batch_at_sender(sandbox, batch_id))["status"] == "completed")


def outputs_at_sender(sandbox: SandboxServer, batch_id: str) -> dict[str, Any]:
    """The output of each run of a batch, as the sender has it."""
    path = f"/deepresearch/batches/{batch_id}/tasks?include_output=true&limit=100"
    found: dict[str, Any] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = _get(sandbox, path + (f"&last_key={cursor}" if cursor else "")).json()
        found |= {task["deepresearch_id"]: task["output"] for task in page["tasks"]}
        pagination = page["pagination"]
        cursor = pagination["last_key"] if pagination["has_more"] else None
    return found


def _get(sandbox: SandboxServer, path: str) -> httpx.Response:
    with httpx.Client(headers={"x-api-key": KEY}, trust_env=False) as client:
        return client.get(sandbox.api_url + path).raise_for_status()
