"""Seconds to the acknowledgement at half of the maximum, with arrivals at a steady rate.

    python -m benchmarks.steady [--store postgres] [--rate 3000]

The maximum is measured first, each round on a server of its own; then deliveries come at even
intervals at half of its median, and each latency is counted from when its delivery was due, so that
a server that stalls cannot hide those whom it kept waiting.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.compared import SERVERS
from benchmarks.databases import NAMES, databases
from benchmarks.load import quantile
from benchmarks.measuring import Starting, at_rate, maximum
from benchmarks.rows import at_most

P99_MS = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("steady", __doc__)
    command.size("--seconds", 5, 0.5, "of each measurement", type=float)
    command.size("--rounds", 3, 1, "of each, maximum and steady rate")
    command.size("--connections", 64, 64, "at once; four times as many at the steady rate")
    command.parser.add_argument("--rate", type=float, help="instead of half of the maximum")
    command.parser.add_argument("--server", choices=list(SERVERS), default="resultsink")
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database:
        starting = partial(SERVERS[options.server], new_database)
        rate = options.rate or half_of_maximum(starting, options)
        rounds = [measure(starting, rate, options) for _ in range(options.rounds)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    what = f"p99 of an acknowledgement, deliveries at a steady rate: {NAMES[options.store]}"
    row = at_most(what, f"half of its maximum, {rate:,.0f}/s", medians["p99_ms"], "ms", most=P99_MS)
    text = ", ".join(f"{name} {value}" for name, value in medians.items())
    details = {"store": options.store, "rounds": rounds, "medians": medians}
    return command.tell(options, where, [row], details, text)


def half_of_maximum(starting: Starting, options: argparse.Namespace) -> float:
    """Half of what the server takes."""
    found = [
        maximum(starting, connections=options.connections, seconds=options.seconds).rate
        for _ in range(options.rounds)
    ]
    note("maximum: " + ", ".join(f"{rate:,.0f}/s" for rate in found))
    return statistics.median(found) / 2


def measure(starting: Starting, rate: float, options: argparse.Namespace) -> dict[str, float]:
    """One measurement at a steady rate."""
    figures, load = at_rate(
        starting, rate=rate, connections=options.connections, seconds=options.seconds
    )
    note(f"at {rate:,.0f}/s: p99 {figures.p99:.2f} ms")
    return {
        "asked_per_second": round(rate, 1),
        "acks_per_second": round(figures.rate, 1),
        "p50_ms": round(figures.p50, 2),
        "p99_ms": round(figures.p99, 2),
        "max_ms": round(load.quantile(1.0), 2),
        "sent_late_p99_ms": round(quantile(load.late, 0.99) * 1000, 2),
        "server_cores": round(figures.server_cores, 2),
        "generator_cores": round(figures.generator_cores, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
