"""A sender's API that costs next to nothing: what the sandbox once answered, from memory.

The sandbox makes up each answer when it is asked, which takes it half a millisecond; on a machine
with two cores a receiver would be measured together with it. Here one recorded answer of each kind
stands for all runs, with the id put in. Who was asked for how often is counted, for the checks.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

PAGE = 100


class Instant:
    """The ASGI application. `answers` are texts in which `RUN` stands for a run's id."""

    def __init__(self, answers: dict[str, str], runs: int) -> None:
        self._batch = answers["batch"].encode()
        self._listed = answers["listed"]
        self._task = answers["task"].encode()
        self._runs = runs
        self._calls: Counter[str] = Counter()
        self._asked: Counter[bytes] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] == "lifespan":
            return  # uvicorn goes on without it
        body = self._answer(scope["path"], scope["query_string"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str, query: bytes) -> bytes:
        if path == "/calls":
            return json.dumps(self._told()).encode()
        parts = path.split("/")
        if parts[-1] == "status":
            self._calls["task"] += 1
            run = parts[-2].encode()
            self._asked[run] += 1
            return self._task.replace(b"RUN", run)
        if parts[-1] == "tasks":
            self._calls["page"] += 1
            return self._page(parse_qs(query.decode()))
        self._calls["batch"] += 1
        return self._batch

    def _page(self, query: dict[str, list[str]]) -> bytes:
        start = int(query.get("last_key", ["0"])[0])
        end = min(start + min(int(query.get("limit", [str(PAGE)])[0]), PAGE), self._runs)
        items = ",".join(
            self._listed.replace("RUN", run_id(number)) for number in range(start, end)
        )
        more = f',"last_key":"{end}"' if end < self._runs else ""
        goes_on = "true" if end < self._runs else "false"
        pagination = f'{{"count":{end - start},"has_more":{goes_on}{more}}}'
        return f'{{"tasks":[{items}],"pagination":{pagination}}}'.encode()

    def _told(self) -> dict[str, Any]:
        return {
            "calls": dict(self._calls),
            "runs": len(self._asked),
            "most": max(self._asked.values(), default=0),
        }


def run_id(number: int) -> str:
    """The id of a run, in the form that the sender's ids have."""
    return f"{number:08d}-0000-4000-8000-000000000000"


def create_app() -> Instant:
    """Build the application from the environment: BENCH_ANSWERS (a file) and BENCH_RUNS."""
    answers = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())
    return Instant(answers, int(os.environ["BENCH_RUNS"]))
