"""`resultsink` as a user runs it: settings in the environment, commands, and processes that serve.

One source, `valyu`, whose API is wherever `api_url` says.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.databases import Database
from benchmarks.deliveries import RESOURCE, SECRET
from benchmarks.processes import HOST, Process, ProcessError, environment, free_port

COMMAND = (sys.executable, "-m", "receiver")
KEY = "val_bench"
HIGHEST_RATE = 1_000_000.0
"""Requests per second: a limit that is none."""


class Service:
    """One database used as a user does; `settings` are those of the source."""

    def __init__(self, database: Database, api_url: str, **settings: float) -> None:
        self._database = database
        source = {"provider": "valyu", "api_key": KEY, "base_url": api_url, **settings}
        named = {f"RESULTSINK_SOURCES__VALYU__{name.upper()}": v for name, v in source.items()}
        self._env = environment(
            RESULTSINK_PUBLIC_URL="https://hooks.example.com",
            **database.settings(),
            **{name: str(value) for name, value in named.items()},
        )
        if database.kind == "postgres":
            self.run("db", "upgrade")

    def run(self, *arguments: str, stdin: str = "") -> str:
        """One command; what it printed."""
        done = subprocess.run(  # noqa: S603  (our own command)
            [*COMMAND, *arguments],
            input=stdin,
            env=self._env,
            cwd=self._database.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            said = f"{done.stderr}{done.stdout}"[-2000:]
            raise ProcessError(f"{' '.join(arguments)} ended with {done.returncode}: {said}")
        return done.stdout

    def endpoint(self, kind: str = "batch", resource: str | None = RESOURCE) -> str:
        """Register an endpoint with the benchmarks' secret; its path."""
        about = [] if resource is None else ["--resource", resource]
        arguments = ("endpoint", "add", "valyu", "--kind", kind, *about)
        path: str = json.loads(self.run(*arguments, "--secret-stdin", "--json", stdin=SECRET))[
            "path"
        ]
        return path

    def start(self, *, port: int, role: str = "all") -> Process:
        """Start `serve` and do not wait."""
        roles = () if role == "all" else ("--role", role)
        folder = self._database.folder
        command = [*COMMAND, "serve", "--host", HOST, "--port", str(port), *roles]
        return Process(command, env=self._env, cwd=folder, log=folder / f"log-{port}")

    @contextmanager
    def serving(self, *, role: str = "all") -> Iterator[tuple[Process, int]]:
        """Serve until the block ends; the process and its port, once it listens."""
        port = free_port()
        process = self.start(port=port, role=role)
        try:
            process.await_port(port)
            yield process, port
            process.check()
        finally:
            process.stop()

    @contextmanager
    def working(self, count: int) -> Iterator[list[Process]]:
        """So many processes that work off jobs, until the block ends; they may not listen."""
        started: list[Process] = []
        try:
            for _ in range(count):
                started.append(self.start(port=free_port(), role="worker"))
            yield started
            for process in started:
                process.check()
        finally:
            for process in started:
                process.stop()
