"""The sender's API on loopback, as instant as it can be; see benchmarks/servers/instant.py.

with instant(10_000) as api:
    ... a receiver with base_url=api.url ...
    api.calls()   # {"calls": {"batch": 1, "page": 100}, "runs": 0, "most": 0}
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.deliveries import RESOURCE
from benchmarks.processes import HOST, ROOT, cpu_seconds, environment, free_port, listening
from benchmarks.service import KEY

OUTPUT_BYTES = 4096


@dataclass(frozen=True)
class Api:
    """The running API."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """The base_url of a source."""
        return f"http://{HOST}:{self.port}/v1"

    def cpu(self) -> float:
        """The seconds of processor time that it has used."""
        return cpu_seconds(self.pid)

    def calls(self) -> dict[str, Any]:
        """Calls by kind; how many runs were asked for alone, and the most asked for one."""
        calls: dict[str, Any] = httpx.get(
            f"http://{HOST}:{self.port}/calls", trust_env=False
        ).json()
        return calls


@contextmanager
def instant(
    runs: int, *, output_bytes: int = OUTPUT_BYTES, lists_outputs: bool = True
) -> Iterator[Api]:
    """Serve a batch with so many runs, all completed, and any single run that is asked for."""
    with tempfile.TemporaryDirectory(prefix="resultsink-api-") as name:
        folder = Path(name)
        answers = record(folder, runs, output_bytes=output_bytes, lists_outputs=lists_outputs)
        (folder / "answers").write_text(json.dumps(answers))
        port = free_port()
        command = (
            *(sys.executable, "-m", "uvicorn", "--host", HOST, "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--lifespan", "off"),
            *("--no-access-log", "--log-level", "warning"),
            *("--factory", "benchmarks.servers.instant:create_app"),
        )
        env = environment(BENCH_ANSWERS=str(folder / "answers"), BENCH_RUNS=str(runs))
        with listening(command, port=port, env=env, cwd=ROOT, log=folder / "log") as process:
            yield Api(port, process.pid)


def record(folder: Path, runs: int, *, output_bytes: int, lists_outputs: bool) -> dict[str, str]:
    """Record the sandbox's answers for one batch and one task, widened to all runs."""
    with _sandbox(folder, output_bytes) as api:
        batch = api.post("/deepresearch/batches", json={"mode": "fast"}).json()["batch_id"]
        question = {"query": "Question about storage RUN"}
        api.post(f"/deepresearch/batches/{batch}/tasks", json={"tasks": [question]})
        answer = api.get(f"/deepresearch/batches/{batch}").json()
        answer["counts"] = {**answer["counts"], "total": runs, "completed": runs}
        wanted = {"include_output": "true" if lists_outputs else "false"}
        page = api.get(f"/deepresearch/batches/{batch}/tasks", params=wanted).json()
        (listed,) = page["tasks"]
        made = api.post("/deepresearch/tasks", json={"mode": "fast", **question}).json()
        alone = api.get(f"/deepresearch/tasks/{made['deepresearch_id']}/status").json()
    listed["deepresearch_id"] = alone["deepresearch_id"] = "RUN"
    found = {"batch": answer, "listed": listed, "task": alone}
    return {name: json.dumps(answer).replace(batch, RESOURCE) for name, answer in found.items()}


@contextmanager
def _sandbox(folder: Path, output_bytes: int) -> Iterator[httpx.Client]:
    port = free_port()
    switches = (f"--set=output_bytes={output_bytes}", "--set=duration=0", "--set=webhook=false")
    command = (sys.executable, "-m", "receiver.sandbox", "--port", str(port), *switches)
    log = folder / "sandbox"
    with (
        listening(command, port=port, env=environment(), cwd=ROOT, log=log),
        httpx.Client(
            base_url=f"http://{HOST}:{port}/v1", headers={"x-api-key": KEY}, trust_env=False
        ) as client,
    ):
        yield client
