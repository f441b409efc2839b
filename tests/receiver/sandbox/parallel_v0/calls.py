"""Calls of Parallel's v0 that several tests make, and who listens to its callbacks."""

import json
from http.server import BaseHTTPRequestHandler
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
    """An inbox that keeps the headers too, in the same order."""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        self.headers: list[dict[str, str]] = []
        usual = super()._handler()

        def do_post(handler: BaseHTTPRequestHandler) -> None:
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            vars(usual)["do_POST"](handler)

        return type("Handler", (usual,), {"do_POST": do_post})

    def callback(self, **more: Any) -> dict[str, Any]:
        """What makes a run call back here."""
        return {"callback_webhook": {"url": self.url, **more}}

    def bodies(self) -> list[dict[str, Any]]:
        """What was said so far."""
        return [json.loads(each.body) for each in self.received]
