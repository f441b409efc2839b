"""The servers that are compared, each a real process with a new database.

    with databases("sqlite") as new_database, SERVERS["bare"](new_database) as server:
        ... requests to server.address, server.path ...
        server.check(200)   # after 200 answers: as many rows, seen from another connection

All run on the same uvicorn with uvloop and httptools and no access log. How each starts stands
here and nowhere else.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.databases import Database, NewDatabase
from benchmarks.deliveries import SECRET
from benchmarks.load import Address
from benchmarks.processes import (
    HOST,
    ROOT,
    Process,
    cpu_seconds,
    environment,
    free_port,
    listening,
    refusing_port,
)
from benchmarks.service import Service

YARDSTICK_PATH = "/webhooks/valyu/0123456789abcdefghijkl"
UVICORN = (
    *(sys.executable, "-m", "uvicorn", "--host", HOST, "--loop", "uvloop", "--http", "httptools"),
    *("--no-access-log", "--log-level", "warning"),
)

EVENT_AND_JOB = ("SELECT count(*) FROM events", "SELECT count(*) FROM jobs")
OURS = {
    "events": "SELECT count(*) FROM events WHERE disposition = 'fetch' AND id > {}",
    "deliveries": "SELECT count(*) FROM deliveries WHERE id > {}",
    "jobs": "SELECT count(DISTINCT event_id) FROM jobs WHERE event_id IS NOT NULL AND id > {}",
}


class StoreError(Exception):
    """The store does not hold what was acknowledged: the figure means nothing."""


@dataclass(frozen=True)
class Server:
    """A running server. Each of `counts` must give the number of acknowledged deliveries.

    `others` are the pids and ports of those beside it, on the same database.
    """

    pid: int
    port: int
    path: str = YARDSTICK_PATH
    database: Database | None = None
    counts: tuple[str, ...] = ()
    others: tuple[tuple[int, int], ...] = ()

    @property
    def addresses(self) -> list[Address]:
        """Where it listens."""
        return [(HOST, port) for port in (self.port, *(port for _, port in self.others))]

    def cpu(self) -> float:
        """Give the seconds of processor time that it has used."""
        return sum(cpu_seconds(pid) for pid in (self.pid, *(pid for pid, _ in self.others)))

    def database_cpu(self) -> float:
        """Return the seconds of processor time that the database server has used."""
        return 0.0 if self.database is None else self.database.cpu()

    def check(self, acknowledged: int) -> None:
        """Compare the rows, while the server still runs, with the number of its 200s."""
        if self.database is None:
            return
        for count in self.counts:
            stored = self.database.number(count)
            if stored != acknowledged:
                raise StoreError(f"{acknowledged} acknowledged, but {count} gives {stored}")


@contextmanager
def nothing(new_database: NewDatabase) -> Iterator[Server]:
    """Start the endpoint that reads the body and answers."""
    with new_database() as database, _uvicorn(database, "nothing:app") as (process, port):
        yield Server(process.pid, port)


@contextmanager
def bare(new_database: NewDatabase) -> Iterator[Server]:
    """Start the bare yardstick."""
    with (
        new_database() as database,
        _uvicorn(database, "bare:create_app", "--factory") as (process, port),
    ):
        yield Server(process.pid, port, database=database, counts=EVENT_AND_JOB)


@contextmanager
def by_hand(new_database: NewDatabase) -> Iterator[Server]:
    """Start the endpoint written by hand."""
    with new_database() as database, _uvicorn(database, "by_hand:app") as (process, port):
        yield Server(process.pid, port, database=database, counts=EVENT_AND_JOB)


@contextmanager
def resultsink(new_database: NewDatabase) -> Iterator[Server]:
    """Start `resultsink serve` as it comes, one endpoint registered, its sender's API away."""
    with new_database() as database, refusing_port() as api:
        service = idle_service(database, api)
        with serving(service, database, service.endpoint()) as server:
            yield server


def idle_service(database: Database, api_port: int) -> Service:
    """Return resultsink as intake measures it, with an API that nobody serves."""
    return Service(database, f"http://{HOST}:{api_port}/v1", concurrency=1)


@contextmanager
def intakes(new_database: NewDatabase, count: int) -> Iterator[Server]:
    """Start so many `resultsink serve --role intake` on one database."""
    with new_database() as database, refusing_port() as api, ExitStack() as stack:
        service = idle_service(database, api)
        path = service.endpoint()
        started = [stack.enter_context(service.serving(role="intake")) for _ in range(count)]
        (pid, port), *others = ((process.pid, port) for process, port in started)
        counts = tuple(count.format(0) for count in OURS.values())
        yield Server(pid, port, path, database, counts, tuple(others))


@contextmanager
def serving(service: Service, database: Database, path: str) -> Iterator[Server]:
    """Serve on a database that may hold something already: only what is new is counted."""
    counts = tuple(
        count.format(database.number(f"SELECT max(id) FROM {table}"))  # noqa: S608  (our own names)
        for table, count in OURS.items()
    )
    with service.serving() as (process, port):
        yield Server(process.pid, port, path, database, counts)


@contextmanager
def _uvicorn(database: Database, app: str, *options: str) -> Iterator[tuple[Process, int]]:
    """Run one of the yardsticks; give the process and the port."""
    port = free_port()
    command = (*UVICORN, "--port", str(port), *options, f"benchmarks.servers.{app}")
    env = environment(BENCH_DATABASE=database.url, BENCH_SECRET=SECRET)
    with listening(command, port=port, env=env, cwd=ROOT, log=database.folder / "log") as process:
        yield process, port


SERVERS: dict[str, Callable[[NewDatabase], AbstractContextManager[Server]]] = {
    "do-nothing": nothing,
    "bare": bare,
    "by-hand": by_hand,
    "resultsink": resultsink,
}
