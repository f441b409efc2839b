"""Senders of Parallel's two APIs as small as can be, for what the sandbox cannot be told to do."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from receiver.sources import Source
from storage import Store
from tests.receiver.working import a_source, announce

GROUP = "tgrp_1"
BATCH, TASK = "batch-1", "task-1"
ENDED = ("completed", "failed", "cancelled")

Answering = Callable[[httpx.Request], httpx.Response | None]


def parallel(**settings: Any) -> Source:
    """A source of Parallel's v1 API; it bears the name that all sources of these tests have."""
    return a_source("https://sender.test", provider="parallel", **settings)


def parallel_v0(**settings: Any) -> Source:
    """A source of Parallel's v0 API."""
    return a_source("https://sender.test", provider="parallel-v0", **settings)


def announce_run(
    store: Store, run_id: str, status: str = "completed", *, group: str | None = GROUP
) -> None:
    """A run's event at the account's URL."""
    hints = {"batch": group, "status": status}
    announce(store, run_id, kind="run", hints=hints, awaits_end=status in ENDED)


def events(*items: Any) -> httpx.Response:
    """A stream of server-sent events."""
    body = "".join(f"data: {json.dumps(item)}\n\n" for item in items)
    return httpx.Response(200, text=body, headers={"content-type": "text/event-stream"})


class GroupSender:
    """One task group: the status of each run by its id. `first` may answer before it does.

    Its runs do not say of which group they are where `group_id` is None: they are single ones.
    """

    def __init__(
        self,
        runs: Mapping[str, str],
        first: Answering = lambda _: None,
        *,
        group_id: str | None = GROUP,
    ) -> None:
        self.runs = dict(runs)
        self.first = first
        self.group_id = group_id
        self.calls: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v1/tasks")
        cursor = request.url.params.get("last_event_id")
        self.calls.append(path if cursor is None else f"{path} behind {cursor}")
        return self.first(request) or self.answer(path, int(cursor or 0))

    def answer(self, path: str, behind: int = 0) -> httpx.Response:
        if path == f"/groups/{GROUP}":
            return httpx.Response(200, json=self.group())
        if path == f"/groups/{GROUP}/runs":
            return events(*self.events()[behind:])
        _, _, run_id, *what = path.split("/")
        if run_id not in self.runs:
            return httpx.Response(404, json={"error": {"message": "Run not found"}})
        if not what:
            return httpx.Response(200, json=self.run(run_id))
        if what == ["input"]:
            return httpx.Response(200, json={"processor": "core", "input": {"q": run_id}})
        if self.runs[run_id] == "completed":
            output = {"type": "text", "content": f"of {run_id}", "basis": []}
            return httpx.Response(200, json={"run": self.run(run_id), "output": output})
        status = 404 if self.runs[run_id] in ENDED else 408
        return httpx.Response(status, json={"error": {"message": "Run failed or unknown"}})

    def group(self) -> dict[str, Any]:
        counts: dict[str, int] = {}
        for status in self.runs.values():
            counts[status] = counts.get(status, 0) + 1
        is_active = any(status not in ENDED for status in self.runs.values())
        shown = {"num_task_runs": len(self.runs), "is_active": is_active}
        return {"taskgroup_id": GROUP, "status": {**shown, "task_run_status_counts": counts}}

    def run(self, run_id: str) -> dict[str, Any]:
        status = self.runs[run_id]
        error = {"message": "went wrong"} if status == "failed" else None
        return {"run_id": run_id, "status": status, "taskgroup_id": self.group_id, "error": error}

    def events(self) -> list[dict[str, Any]]:
        """The items of the stream of the group's runs, its cursors counted from one."""
        ended = [run_id for run_id, status in self.runs.items() if status in ENDED]
        return [
            {
                "type": "task_run.state",
                "event_id": str(number),
                "run": self.run(run_id),
                "input": {"input": {"q": run_id}},
                "output": {"type": "text", "content": f"of {run_id}"}
                if self.runs[run_id] == "completed"
                else None,
            }
            for number, run_id in enumerate(ended, start=1)
        ]


class BatchSender:
    """One batch of v0: the status of each run by its id. It exports what is complete."""

    def __init__(self, runs: Mapping[str, str], *, knows_runs: bool = True) -> None:
        self.runs = dict(runs)
        self.knows_runs = knows_runs
        self.calls: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix(f"/v0/tasks/{TASK}")
        self.calls.append(path)
        if path == f"/batches/{BATCH}":
            shown: dict[str, list[str]] = {}
            for run_id, status in self.runs.items():
                shown.setdefault(status, []).append(run_id)
            return httpx.Response(200, json={"status_map": shown})
        if path == f"/batches/{BATCH}/export":
            complete = [run_id for run_id, status in self.runs.items() if status == "complete"]
            return httpx.Response(200, json=[self.run(run_id) for run_id in complete])
        run_id = path.removeprefix("/runs/")
        if not self.knows_runs or run_id not in self.runs:
            return httpx.Response(404, json={"detail": "Not Found"})
        return httpx.Response(200, json=self.run(run_id))

    def run(self, run_id: str) -> dict[str, Any]:
        status = self.runs[run_id]
        ids = {"task_id": TASK, "batch_run_id": BATCH, "run_id": run_id, "status": status}
        output = {"city": f"of {run_id}"} if status == "complete" else None
        error = "went wrong" if status == "failed" else None
        return {**ids, "input": {"arguments": {"q": run_id}}, "output": output, "error": error}
