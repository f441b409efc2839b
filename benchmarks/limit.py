"""A batch of 1,000 runs under a limit of requests per second: how much of the limit is used.

    python -m benchmarks.limit [--store postgres] [--runs 1000] [--per-second 25]

Twice, for where the limit binds is where runs are asked for one by one: single runs, each announced
by a webhook of its own; and a batch whose listing brings no outputs, announced by one. The share is
calls made per second, between the first and the last result, by the limit. The limit must be below
what benchmarks/results.py finds for single runs, or it is not what binds.
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.databases import NAMES, NewDatabase, databases
from benchmarks.deliveries import Sender, run_requests
from benchmarks.fetching import Figures, check, check_calls, seconds_between, send, timed
from benchmarks.rows import at_least
from benchmarks.sender import instant
from benchmarks.servers.instant import run_id
from benchmarks.service import Service

REACH = 0.9
CONCURRENCY = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("limit", __doc__)
    command.size("--runs", 1_000, 50, "of the batch")
    command.size("--per-second", 25, 25, "requests allowed a second", type=float)
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database:
        found = {
            "single runs": measure(options, new_database, alone=True),
            "a batch without outputs in its list": measure(options, new_database, alone=False),
        }
    rows = [
        at_least(
            f"a batch of {options.runs:,} under a limit, {how}: {NAMES[options.store]}",
            f"the limit, {options.per_second:g} requests/s",
            f"{figures['calls_per_second']:.1f}/s",
            ratio=figures["share"],
            least=REACH,
        )
        for how, figures in found.items()
    ]
    text = "\n".join(f"{how}: {figures}" for how, figures in found.items())
    return command.tell(options, where, rows, {"store": options.store, **found}, text)


def measure(options: argparse.Namespace, new_database: NewDatabase, *, alone: bool) -> Figures:
    """Bring a batch in, its runs each by a call of its own; the share of the limit."""
    runs = options.runs
    with new_database() as database, instant(runs, lists_outputs=alone) as api:
        service = Service(
            database,
            api.url,
            requests_per_second=options.per_second,
            concurrency=CONCURRENCY,
        )
        if alone:
            path = service.endpoint("account", None)
            requests = run_requests(path, map(run_id, range(runs)))
        else:
            requests = Sender(service.endpoint("batch")).requests(1)
        with service.serving() as (process, port):
            figures = timed(database, api, [process.pid], runs, lambda: send(port, requests))
            check(database, runs, jobs=len(requests))
        check_calls(api, runs)
        between = seconds_between(database, 0, runs - 1)
    reached = (runs - 1) / between
    note(f"{reached:.1f} calls/s")
    return {
        **figures,
        "calls_per_second": round(reached, 2),
        "share": round(reached / options.per_second, 4),
    }


if __name__ == "__main__":
    sys.exit(main())
