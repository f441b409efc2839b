"""The providers that the suite runs over: one class each, with all that they do not share.

A new provider is one class here, beside its file in receiver/providers and its sandbox.
"""

import hashlib
import hmac
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx
import standardwebhooks

from receiver.providers.capabilities.require import require_new_batches
from receiver.providers.model import NewTask, Plan
from receiver.sandbox import SandboxServer
from receiver.sources import PROVIDERS

SECRET_A = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"  # noqa: S105  of the sandbox
SECRET_B = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1CLTI0"  # noqa: S105
KEY = "val_conformance_key"
SCHEMA = {
    "type": "object",
    "properties": {"ceo": {"type": "string"}, "founded": {"type": "integer"}},
    "required": ["ceo"],
}

Row = dict[str, Any]


class Case(ABC):
    """One provider; its source has its name.

    lists, asks, looks and adds are its calls, as the sandbox's faults match them: to list a batch's
    results, to ask for one run, for a batch's status, and to submit tasks.
    """

    name: ClassVar[str]
    lists: ClassVar[str]
    asks: ClassVar[str]
    looks: ClassVar[str]
    adds: ClassVar[str]
    resource: ClassVar[str]
    """Whose id an endpoint is bound to: a batch's, a run's, or nobody's (account)."""
    announced: ClassVar[str]
    """The subject of one delivery: batch or run."""
    id_field: ClassVar[str]
    """Under which name an announced object has its id."""
    refused_cursor: ClassVar[str | None] = None
    """The part of a query with which a listing goes on; None where none can."""
    has_single_runs: ClassVar[bool] = True
    """True if `task create` makes single runs of it."""
    header: ClassVar[tuple[str, ...]]
    """The columns of a CSV export behind the five that all have."""

    @property
    def is_bound(self) -> bool:
        """True if the holder of one secret can speak of one resource only."""
        return self.resource != "account"

    def deliveries(self, runs: int) -> int:
        """Return the number of deliveries that announce a batch of so many runs."""
        return 1 if self.announced == "batch" else runs

    def source(self, sandbox: SandboxServer, folder: Path) -> dict[str, Any]:
        """The settings of its source; the limit of calls is out of the way."""
        del folder
        return {
            "provider": self.name,
            "api_key": KEY,
            "base_url": sandbox.url,
            "requests_per_second": 10_000.0,
        }

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """The plan of a batch."""

    def row(self, number: int) -> Row:
        """A row of a tasks file."""
        return {"company": f"company {number}", "country": "DE" if number % 2 else "FR"}

    def tasks(self, count: int) -> list[NewTask]:
        """Tasks as they are read from a file."""
        provider = require_new_batches(PROVIDERS[self.name]())
        return [provider.new_task(self.row(number)) for number in range(count)]

    def secret(self, name: str) -> str:
        """A secret of this kind of sender."""
        return f"a-secret-of-the-sender-{name}"

    def options(self, number: int) -> Row:
        """The options of `task create` for a single run."""
        raise NotImplementedError

    def stored_task(self, sandbox: SandboxServer) -> str:
        """A stored task, where single runs are made of one."""
        raise NotImplementedError

    def run_of(self, task_id: str, sandbox: SandboxServer, number: int, url: str) -> str:
        """A single run of it, made by other code and announced at this URL; its id."""
        raise NotImplementedError

    @abstractmethod
    def headers(self, secret: str, body: bytes) -> dict[str, str]:
        """Sign a genuine delivery, with code that is not ours where there is any."""

    @abstractmethod
    def body(self, resource: str) -> bytes:
        """An announcement that something has completed."""

    @abstractmethod
    def shown_alone(
        self, sandbox: SandboxServer, task_id: str | None, run_id: str
    ) -> dict[str, Any]:
        """Return what the sender says of a run, by a call for it alone."""


class Valyu(Case):
    """Batches with a webhook and a secret each, listed in pages."""

    name = "valyu"
    lists = "GET /deepresearch/batches/*/tasks"
    asks = "GET /deepresearch/tasks/*/status"
    looks = "GET /deepresearch/batches/*"
    adds = "POST /deepresearch/batches/*/tasks"
    resource = announced = "batch"
    id_field = "batch_id"
    refused_cursor = "?*last_key=*"
    header = ("query", "output")
    plan = Plan(runner="fast", name="conformance")

    def source(self, sandbox: SandboxServer, folder: Path) -> dict[str, Any]:
        return {**super().source(sandbox, folder), "base_url": sandbox.api_url}

    def row(self, number: int) -> Row:
        return {"query": f"query {number}", "id": f"id{number}"}

    def options(self, number: int) -> Row:
        return {"query": f"query {number}", "runner": "fast"}

    def headers(self, secret: str, body: bytes) -> dict[str, str]:
        stamp = str(int(time.time()))
        mac = hmac.digest(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hex()
        return {"x-webhook-timestamp": stamp, "x-webhook-signature": f"sha256={mac}"}

    def body(self, resource: str) -> bytes:
        return _json(batch_id=resource, status="completed")

    def shown_alone(
        self, sandbox: SandboxServer, task_id: str | None, run_id: str
    ) -> dict[str, Any]:
        shown = _get(f"{sandbox.api_url}/deepresearch/tasks/{run_id}/status")
        return {
            "status": shown["status"],
            "runner": shown["mode"],
            "input": {"query": shown["query"]},
            "output": shown.get("output"),
            "sources": shown.get("sources") or None,
            "error": shown.get("error"),
        }


class Parallel(Case):
    """Groups without a webhook of their own, listed in one stream; the account has the secrets."""

    name = "parallel"
    lists = "GET /tasks/groups/*/runs"
    asks = "GET /tasks/runs/*/result"
    looks = "GET /tasks/groups/*"
    adds = "POST /tasks/groups/*/runs"
    refused_cursor = "?*last_event_id=*"
    resource = "account"
    announced = "run"
    id_field = "run_id"
    header = ("company", "country", "ceo", "founded")
    plan = Plan(runner="core", name="conformance", schema=SCHEMA)

    def source(self, sandbox: SandboxServer, folder: Path) -> dict[str, Any]:
        """The secrets are in a file, so that they can change while it is watched."""
        path = folder / "secrets"
        path.write_text(f"{SECRET_A}\n")
        return {**super().source(sandbox, folder), "signing_secrets_file": path}

    def options(self, number: int) -> Row:
        return {"input": self.row(number), "runner": "core"}

    def secret(self, name: str) -> str:
        return {"old": SECRET_A, "new": SECRET_B}.get(name, "whsec_bm9ib2R5IGtub3dzIHRoaXMgb25l")

    def headers(self, secret: str, body: bytes) -> dict[str, str]:
        event, stamp = f"whevent_{hashlib.sha256(body).hexdigest()[:16]}", int(time.time())
        signer: Any = standardwebhooks.Webhook(secret)
        signature = signer.sign(event, _moment(stamp), body.decode())
        return {
            "webhook-id": event,
            "webhook-timestamp": str(stamp),
            "webhook-signature": signature,
        }

    def body(self, resource: str) -> bytes:
        return _json(type="task_run.status", data={"run_id": resource, "status": "completed"})

    def shown_alone(
        self, sandbox: SandboxServer, task_id: str | None, run_id: str
    ) -> dict[str, Any]:
        url = f"{sandbox.url}/v1/tasks/runs/{run_id}"
        shown, given = _get(url), _get(f"{url}/input")
        has_failed = shown["status"] == "failed"
        brought: dict[str, Any] = {} if has_failed else _get(f"{url}/result")["output"]
        return {
            "status": shown["status"],
            "runner": shown["processor"],
            "input": given["input"],
            "output": brought.get("content"),
            "sources": brought.get("basis"),
            "error": shown["error"]["message"] if has_failed else None,
        }


class ParallelV0(Case):
    """Batches of a stored task whose runs call back one by one, each with a token of ours."""

    name = "parallel-v0"
    lists = "GET /v0/tasks/*/batches/*/export"
    asks = "GET /v0/tasks/*/runs/*"
    looks = "GET /v0/tasks/*/batches/*"
    adds = "POST /v0/tasks/*/batches"
    resource = announced = "run"
    id_field = "run_id"
    header = ("company", "country", "ceo", "founded")
    has_single_runs = False
    plan = Plan(
        runner="neon", name="conformance", schema=SCHEMA, prompt="Who is CEO of ${company}?"
    )

    def stored_task(self, sandbox: SandboxServer) -> str:
        made = _post(f"{sandbox.url}/v0/tasks", {"prompt": "Who is CEO of ${company}?"})
        return str(made["task_id"])

    def run_of(self, task_id: str, sandbox: SandboxServer, number: int, url: str) -> str:
        callback = {"url": url, "headers": self.headers(self.secret(str(number)), b"")}
        wanted = {
            "arguments": self.row(number),
            "enqueue_run": True,
            "callback_webhook": callback,
        }
        made = _post(f"{sandbox.url}/v0/tasks/{task_id}/runners/neon/runs", wanted)
        return str(made["run_id"])

    def headers(self, secret: str, body: bytes) -> dict[str, str]:
        """The one documented check is a header that we ask for."""
        del body
        return {"authorization": f"Bearer {secret}"}

    def body(self, resource: str) -> bytes:
        return _json(run_id=resource, status="complete")

    def shown_alone(
        self, sandbox: SandboxServer, task_id: str | None, run_id: str
    ) -> dict[str, Any]:
        shown = _get(f"{sandbox.url}/v0/tasks/{task_id}/runs/{run_id}")
        return {
            "status": {"complete": "completed"}.get(shown["status"], shown["status"]),
            "runner": shown["runner"],
            "input": shown["input"]["arguments"],
            "output": shown.get("output"),
            "sources": None,
            "error": shown.get("error"),
        }


CASES: Mapping[str, Case] = {case.name: case for case in (Valyu(), Parallel(), ParallelV0())}


def _json(**body: Any) -> bytes:
    return json.dumps(body).encode()


def _moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def _post(url: str, body: Row) -> Any:
    response = httpx.post(url, json=body, headers={"x-api-key": KEY}, trust_env=False)
    return response.raise_for_status().json()


def _get(url: str) -> Any:
    response = httpx.get(url, headers={"x-api-key": KEY}, trust_env=False)
    return response.raise_for_status().json()
