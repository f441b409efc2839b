"""Deliveries acknowledged per second with millions of events stored, against an empty store.

    python -m benchmarks.filled [--store postgres] [--events 10000000]

The store is filled by SQL first, as benchmarks/fill.py says; filling takes one to three minutes for
each million (filling_seconds in the JSON). Then the empty and the filled store take turns. What is
stored is given in bytes per row, for each table and each index.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.table import Table

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.compared import idle_service, resultsink, serving
from benchmarks.databases import NAMES, Database, NewDatabase, databases
from benchmarks.fill import Size, end_jobs, fill, sizes
from benchmarks.measuring import maximum
from benchmarks.processes import refusing_port
from benchmarks.rows import Row, at_least

REACH = 0.70
WITH_EACH_EVENT = ("events", "jobs", "attempts")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("filled", __doc__)
    command.size("--events", 10_000_000, 20_000, "stored before")
    command.size("--bodies", 100_000, 1_000, "of the newest of them that are still kept")
    command.size("--seconds", 5, 0.5, "of each measurement", type=float)
    command.size("--rounds", 3, 1, "of both stores")
    command.size("--connections", 64, 64, "at once")
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database, new_database() as database:
        began = time.monotonic()
        path = fill(database, events=options.events, bodies=options.bodies)
        taken = time.monotonic() - began
        found = sizes(database)
        rounds = [measure(options, new_database, database, path, n) for n in range(options.rounds)]
    rows = _rows(options, rounds, found)
    details: dict[str, Any] = {
        "store": options.store,
        "events": options.events,
        "filling_seconds": round(taken, 1),
        "sizes": [vars(size) for size in found],
        "rounds": rounds,
    }
    return command.tell(options, where, rows, details, _table(options, found))


def measure(
    options: argparse.Namespace,
    new_database: NewDatabase,
    database: Database,
    path: str,
    number: int,
) -> dict[str, float]:
    """One round: both stores, in turning order."""
    at = {"connections": options.connections, "seconds": options.seconds}
    found: dict[str, float] = {}
    for name in ("empty", "filled")[:: 1 if number % 2 == 0 else -1]:
        if name == "empty":
            found[name] = maximum(partial(resultsink, new_database), **at).rate
        else:
            with refusing_port() as api:
                starting = partial(serving, idle_service(database, api), database, path)
                # other deliveries than the pattern's, and than those of the rounds before
                found[name] = maximum(starting, **at, first=(number + 1) * 10_000_000).rate
            end_jobs(database)
        note(f"round {number + 1} {name}: {found[name]:,.0f}/s")
    return found


def _rows(
    options: argparse.Namespace, rounds: list[dict[str, float]], found: list[Size]
) -> list[Row]:
    store = NAMES[options.store]
    empty, filled = (statistics.median(one[name] for one in rounds) for name in ("empty", "filled"))
    each = sum(size.bytes_per_row for size in found if size.table in WITH_EACH_EVENT)
    body = sum(size.bytes_per_row for size in found if size.table == "deliveries")
    return [
        at_least(
            f"the same with {options.events:,} events stored: {store}",
            f"an empty store, {empty:,.0f}/s",
            f"{filled:,.0f}/s",
            ratio=statistics.median(one["filled"] / one["empty"] for one in rounds),
            least=REACH,
        ),
        Row(
            f"bytes per event, its job and one attempt, with indexes: {store}",
            "-",
            f"{each:,.0f}; a kept delivery of 1 kB {body:,.0f} more",
        ),
    ]


def _table(options: argparse.Namespace, found: list[Size]) -> Table:
    laid = Table(title=f"{options.events:,} events in {NAMES[options.store]}")
    for heading in ("table", "what"):
        laid.add_column(heading)
    for heading in ("MB", "bytes per row"):
        laid.add_column(heading, justify="right")
    for size in found:
        what = "the rows" if size.name == size.table else size.name
        laid.add_row(size.table, what, f"{size.megabytes:,.1f}", f"{size.bytes_per_row:,.1f}")
    return laid


if __name__ == "__main__":
    sys.exit(main())
