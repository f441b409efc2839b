"""The servers that are compared, each a real process with a new database.

    with SERVERS["bare"]() as server:
        ... requests to server.address, server.path ...
        server.check(200)   # after 200 answers: as many rows, seen from another connection

All run on the same uvicorn with uvloop and httptools and no access log. How each starts stands
here and nowhere else.
"""

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.deliveries import RESOURCE, SECRET
from benchmarks.load import Address
from benchmarks.processes import (
    HOST,
    ROOT,
    ProcessError,
    cpu_seconds,
    environment,
    free_port,
    listening,
    refusing_port,
)

YARDSTICK_PATH = "/webhooks/valyu/0123456789abcdefghijkl"
UVICORN = (
    *(sys.executable, "-m", "uvicorn", "--host", HOST, "--loop", "uvloop", "--http", "httptools"),
    *("--no-access-log", "--log-level", "warning"),
)

EVENT_AND_JOB = ("SELECT count(*) FROM events", "SELECT count(*) FROM jobs")
OURS = (
    "SELECT count(*) FROM events WHERE disposition = 'fetch'",
    "SELECT count(*) FROM deliveries",
    "SELECT count(DISTINCT event_id) FROM jobs WHERE event_id IS NOT NULL",
)


class StoreError(Exception):
    """The store does not hold what was acknowledged: the figure means nothing."""


@dataclass(frozen=True)
class Server:
    """A running server. Each of `counts` must give the number of acknowledged deliveries."""

    pid: int
    port: int
    path: str = YARDSTICK_PATH
    database: Path | None = None
    counts: tuple[str, ...] = ()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return HOST, self.port

    def cpu(self) -> float:
        """Give the seconds of processor time that it has used."""
        return cpu_seconds(self.pid)

    def check(self, acknowledged: int) -> None:
        """Compare the rows, while the server still runs, with the number of its 200s."""
        if self.database is None:
            return
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            for count in self.counts:
                (stored,) = connection.execute(count).fetchone()
                if stored != acknowledged:
                    raise StoreError(f"{acknowledged} acknowledged, but {count} gives {stored}")


@contextmanager
def nothing() -> Iterator[Server]:
    """Start the endpoint that reads the body and answers."""
    with _folder() as folder, _uvicorn(folder, "nothing:app") as (pid, port):
        yield Server(pid, port)


@contextmanager
def bare() -> Iterator[Server]:
    """Start the bare yardstick."""
    with _folder() as folder, _uvicorn(folder, "bare:create_app", "--factory") as (pid, port):
        yield Server(pid, port, database=folder / "bench.db", counts=EVENT_AND_JOB)


@contextmanager
def by_hand() -> Iterator[Server]:
    """Start the endpoint written by hand."""
    with _folder() as folder, _uvicorn(folder, "by_hand:app") as (pid, port):
        yield Server(pid, port, database=folder / "bench.db", counts=EVENT_AND_JOB)


@contextmanager
def resultsink() -> Iterator[Server]:
    """Start `resultsink serve` as it comes, one endpoint registered, its sender's API away."""
    port = free_port()
    with _folder() as folder, refusing_port() as api:
        database = folder / "resultsink.db"
        env = environment(
            RESULTSINK_DATABASE_URL=f"sqlite:///{database}",
            RESULTSINK_PUBLIC_URL="https://hooks.example.com",
            RESULTSINK_SOURCES__VALYU__PROVIDER="valyu",
            RESULTSINK_SOURCES__VALYU__API_KEY="val_bench",
            RESULTSINK_SOURCES__VALYU__BASE_URL=f"http://{HOST}:{api}/v1",
            RESULTSINK_SOURCES__VALYU__CONCURRENCY="1",
        )
        path = _register(env, folder)
        command = (sys.executable, "-m", "receiver", "serve", "--host", HOST, "--port", str(port))
        with listening(command, port=port, env=env, cwd=folder, log=folder / "log") as pid:
            yield Server(pid, port, path=path, database=database, counts=OURS)


def _register(env: dict[str, str], folder: Path) -> str:
    """Register the endpoint through the command line; give its path."""
    command = (
        *(sys.executable, "-m", "receiver", "endpoint", "add", "valyu", "--kind", "batch"),
        *("--resource", RESOURCE, "--secret-stdin", "--json"),
    )
    done = subprocess.run(  # noqa: S603  (our own command)
        command, input=SECRET, env=env, cwd=folder, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise ProcessError(f"endpoint add ended with {done.returncode}: {done.stderr[-2000:]}")
    path: str = json.loads(done.stdout)["path"]
    return path


@contextmanager
def _uvicorn(folder: Path, app: str, *options: str) -> Iterator[tuple[int, int]]:
    """Run one of the yardsticks; give the process id and the port."""
    port = free_port()
    command = (*UVICORN, "--port", str(port), *options, f"benchmarks.servers.{app}")
    env = environment(BENCH_DATABASE=str(folder / "bench.db"), BENCH_SECRET=SECRET)
    with listening(command, port=port, env=env, cwd=ROOT, log=folder / "log") as pid:
        yield pid, port


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="resultsink-bench-") as name:
        yield Path(name)


SERVERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "do-nothing": nothing,
    "bare": bare,
    "by-hand": by_hand,
    "resultsink": resultsink,
}
