"""The most memory that a process has under load: deliveries, large pages, large single results.

    python -m benchmarks.loaded [--store postgres]

Three processes, each from its start: one takes deliveries of 1 kB as fast as it can; one brings in
a batch of large results by its pages of a hundred; one brings in single runs of a megabyte each,
eight at once. There is no target but that of the design for exports; see benchmarks/export.py.
"""

import sys
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.compared import resultsink
from benchmarks.databases import NAMES, NewDatabase, databases
from benchmarks.deliveries import Sender, run_requests
from benchmarks.fetching import check, send, until
from benchmarks.load import LoadError, closed_loop
from benchmarks.processes import memory
from benchmarks.rows import Row
from benchmarks.sender import instant
from benchmarks.servers.instant import run_id
from benchmarks.service import HIGHEST_RATE, Service

CONNECTIONS = 64
CONCURRENCY = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("loaded", __doc__)
    command.size("--deliveries", 50_000, 1_000, "taken in")
    command.size("--listed", 500, 100, "runs of the batch")
    command.size("--listed-bytes", 100_000, 100_000, "of each of their outputs")
    command.size("--runs", 100, 20, "single runs")
    command.size("--run-bytes", 1_000_000, 1_000_000, "of each of their outputs")
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database:
        found = {
            f"taking {options.deliveries:,} deliveries": taking(new_database, options.deliveries),
            f"a listed batch of {options.listed:,}, {options.listed_bytes:,} bytes each": listing(
                new_database, options.listed, options.listed_bytes
            ),
            f"{options.runs:,} single runs, {options.run_bytes:,} bytes each": fetching(
                new_database, options.runs, options.run_bytes
            ),
        }
    rows = [
        Row(f"most memory, {what}: {NAMES[options.store]}", "-", f"{megabytes:.0f} MB")
        for what, megabytes in found.items()
    ]
    return command.tell(options, where, rows, {"store": options.store, **found})


def taking(new_database: NewDatabase, count: int) -> float:
    """While deliveries are taken in."""
    with resultsink(new_database) as server:
        requests = Sender(server.path).requests(count)
        load = closed_loop(server.addresses, requests, connections=CONNECTIONS, seconds=600.0)
        if load.stored != count:
            raise LoadError(f"{load.stored} of {count} deliveries were answered 200")
        server.check(count)
        return _told(memory(server.pid, peak=True))


def listing(new_database: NewDatabase, runs: int, size: int) -> float:
    """While a batch is brought in by its pages."""
    with new_database() as database, instant(runs, output_bytes=size) as api:
        service = Service(database, api.url, requests_per_second=HIGHEST_RATE)
        requests = Sender(service.endpoint("batch")).requests(1)
        with service.serving() as (process, port):
            send(port, requests)
            until(database, "SELECT count(*) FROM results", runs)
            check(database, runs, jobs=1)
            return _told(memory(process.pid, peak=True))


def fetching(new_database: NewDatabase, runs: int, size: int) -> float:
    """While single runs are brought in."""
    with new_database() as database, instant(runs, output_bytes=size) as api:
        service = Service(
            database, api.url, requests_per_second=HIGHEST_RATE, concurrency=CONCURRENCY
        )
        requests = run_requests(service.endpoint("account", None), map(run_id, range(runs)))
        with service.serving() as (process, port):
            send(port, requests)
            until(database, "SELECT count(*) FROM results", runs)
            check(database, runs, jobs=runs)
            return _told(memory(process.pid, peak=True))


def _told(megabytes: float) -> float:
    note(f"at most {megabytes:.0f} MB")
    return round(megabytes, 1)


if __name__ == "__main__":
    sys.exit(main())
