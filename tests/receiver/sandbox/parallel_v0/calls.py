"""Calls of Parallel's v0 that several tests make, and who listens to its callbacks."""

import json
from typing import Any

import httpx

from tests.receiver.sandbox.conftest import Inbox

TASK = {
    "name": "Head office lookup",
    "prompt": "Name the city where ${company} has its head office",
    "input_schema": {
        "type": "object",
        "properties": {"company": {"type": "string"}},
        "required": ["company"],
    },
    "output_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "note": {"type": "string"}},
    },
    "processor": "argon",
}


def a_task(v0: httpx.Client, **changes: Any) -> str:
    """The id of a new task."""
    created = v0.post("/tasks", json=TASK | changes)
    assert created.status_code == 200, created.text
    return str(created.json()["task_id"])


def a_batch(v0: httpx.Client, task: str, *companies: Any, **more: Any) -> dict[str, Any]:
    """A new batch with a run for each company, as creating it was answered."""
    requests = [{"arguments": {"company": company}, **more} for company in companies]
    wanted = {"task_run_requests": requests, "runner": "neon"}
    created = v0.post(f"/tasks/{task}/batches", json=wanted)
    assert created.status_code == 200, created.text
    return dict(created.json())


def status_map(v0: httpx.Client, batch: dict[str, Any]) -> dict[str, list[str]]:
    """The ids of a batch's runs by status."""
    path = f"/tasks/{batch['task_id']}/batches/{batch['batch_run_id']}"
    return dict(v0.get(path).json()["status_map"])


def a_run(v0: httpx.Client, task: str, company: str, **more: Any) -> dict[str, Any]:
    """A single run, as creating it was answered."""
    wanted = {"arguments": {"company": company}, **more}
    return dict(v0.post(f"/tasks/{task}/runners/krypton-80/runs", json=wanted).json())


class Listener(Inbox):
    """An inbox for the callbacks of v0."""

    @property
    def headers(self) -> list[dict[str, str]]:
        """The headers of each delivery so far."""
        return [each.headers for each in self.received]

    def callback(self, **more: Any) -> dict[str, Any]:
        """The part of a request that makes a run call back here."""
        return {"callback_webhook": {"url": self.url, **more}}

    def bodies(self) -> list[dict[str, Any]]:
        """The JSON body of each delivery so far."""
        return [json.loads(each.body) for each in self.received]
