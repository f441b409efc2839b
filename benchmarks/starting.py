"""Start-up to the first 200, and the memory of a process that has nothing to do.

    python -m benchmarks.starting [--store postgres] [--rounds 5]

Counted from the start of the process to the 200 of a genuine delivery, which is asked for again and
again from the beginning; the schema is there. The memory is what is resident a few seconds later.
"""

import socket
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.compared import idle_service
from benchmarks.databases import NAMES, databases
from benchmarks.deliveries import Sender
from benchmarks.processes import (
    HOST,
    START_LIMIT,
    Process,
    ProcessError,
    free_port,
    memory,
    refusing_port,
)
from benchmarks.rows import at_most
from benchmarks.service import Service

SECONDS = 1.5
MEGABYTES = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("starting", __doc__)
    command.size("--rounds", 5, 1, "starts")
    command.size("--idle", 3, 1, "seconds until the memory is looked at", type=float)
    options = command.read(arguments)
    where = machine.describe()
    with (
        databases(options.store) as new_database,
        new_database() as database,
        refusing_port() as api,
    ):
        service = idle_service(database, api)
        sender = Sender(service.endpoint())
        rounds = [measure(service, sender, options.idle) for _ in range(options.rounds)]
        stored = database.number("SELECT count(*) FROM events")
    assert stored == options.rounds, f"{options.rounds} deliveries acknowledged, {stored} stored"
    seconds, resident = (statistics.median(each) for each in zip(*rounds, strict=True))
    store = NAMES[options.store]
    rows = [
        at_most(f"start-up to the first 200: {store}", "-", seconds, "s", most=SECONDS),
        at_most(f"resident memory, idle: {store}", "-", resident, "MB", most=MEGABYTES),
    ]
    return command.tell(options, where, rows, {"store": options.store, "rounds": rounds})


def measure(service: Service, sender: Sender, idle: float) -> tuple[float, float]:
    """One start: seconds to the first 200, and megabytes when idle."""
    (request,) = sender.requests(1)
    port = free_port()
    began = time.perf_counter()
    process = service.start(port=port)
    try:
        while not _is_taken(port, request):
            _give_up(process, began)
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        time.sleep(idle)
        process.check()
        resident = memory(process.pid)
    finally:
        process.stop()
    note(f"{seconds:.2f} s, {resident:.0f} MB")
    return round(seconds, 3), round(resident, 1)


def _is_taken(port: int, request: bytes) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=5.0) as connection:
            connection.sendall(request)
            return connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


def _give_up(process: Process, began: float) -> None:
    process.check()
    if time.perf_counter() - began > START_LIMIT:
        raise ProcessError(f"no 200 after {START_LIMIT:.0f} s: {process.tail()}")


if __name__ == "__main__":
    sys.exit(main())
