"""Results stored per second, with a sender whose API answers at once and no limits of ours.

    python -m benchmarks.results                           a batch in pages; single runs, one by one
    python -m benchmarks.results --store postgres
    python -m benchmarks.results --store postgres --workers     two worker processes against one

From the first webhook that is sent until the last result is committed, in the process that also
takes the webhooks; results are 4 kB. With --workers, a process of its own takes them in first, and
the rate is that between a tenth and nine tenths of the results stored: starting up does not count.
Every run must be stored once, in its first version, with all jobs done.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.databases import NAMES, NewDatabase, databases
from benchmarks.deliveries import Sender, run_requests
from benchmarks.fetching import (
    Figures,
    ResultsError,
    check,
    check_calls,
    seconds_between,
    send,
    timed,
)
from benchmarks.rows import Row, at_least, at_least_figure
from benchmarks.sender import instant
from benchmarks.servers.instant import PAGE, run_id
from benchmarks.service import HIGHEST_RATE, Service

PER_SECOND = 1_000
TWO_TO_ONE = 1.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("results", __doc__)
    command.size("--listed", 5_000, 500, "runs of the batch that is listed")
    command.size("--runs", 1_000, 200, "single runs")
    command.size("--rounds", 3, 1, "of each")
    command.size("--concurrency", 32, 32, "jobs worked on at once, for each process")
    command.parser.add_argument("--workers", action="store_true", help="two against one")
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database:
        measure = _workers if options.workers else _one_process
        rows, details = measure(options, new_database)
    text = "\n".join(f"{name}: {figures}" for name, figures in details.items())
    return command.tell(options, where, rows, {"store": options.store, **details}, text)


def _one_process(
    options: argparse.Namespace, new_database: NewDatabase
) -> tuple[list[Row], dict[str, Any]]:
    store = NAMES[options.store]
    pages = _rounds(options, lambda: in_pages(new_database, options.listed))
    alone = _rounds(options, lambda: one_by_one(new_database, options.runs, options.concurrency))
    measured = (("a batch listed in pages", pages), ("single runs, one by one", alone))
    rows = [
        at_least_figure(
            f"results stored by one process, {what}: {store}",
            "the sender's API instant",
            figures["per_second"],
            "/s",
            least=PER_SECOND,
        )
        for what, figures in measured
    ]
    each = alone["calls_per_run"]
    what = f"calls to bring in {options.runs:,} single runs: {store}"
    rows.append(Row(what, "-", f"{each:g} each, none twice", "one each", None, each == 1.0))
    return rows, {"pages": pages, "singles": alone}


def _workers(
    options: argparse.Namespace, new_database: NewDatabase
) -> tuple[list[Row], dict[str, Any]]:
    found: list[tuple[Figures, Figures]] = []
    for number in range(options.rounds):
        order = (1, 2) if number % 2 == 0 else (2, 1)
        by_count = {
            count: by_workers(new_database, options.runs, options.concurrency, count)
            for count in order
        }
        found.append((by_count[1], by_count[2]))
        note(f"one worker {found[-1][0]}, two {found[-1][1]}")
    one, two = (_medians([each[place] for each in found]) for place in (0, 1))
    ratio = statistics.median(each[1]["per_second"] / each[0]["per_second"] for each in found)
    row = at_least(
        f"results stored by two worker processes, single runs: {NAMES[options.store]}",
        f"one worker process, {one['per_second']:,.0f}/s",
        f"{two['per_second']:,.0f}/s",
        ratio=ratio,
        least=TWO_TO_ONE,
    )
    return [row], {"one": one, "two": two}


def in_pages(new_database: NewDatabase, runs: int) -> Figures:
    """Bring in one batch by its listing, after one webhook."""
    with new_database() as database, instant(runs) as api:
        service = Service(database, api.url, requests_per_second=HIGHEST_RATE)
        path = service.endpoint("batch")
        with service.serving() as (process, port):
            figures = timed(
                database, api, [process.pid], runs, lambda: send(port, Sender(path).requests(1))
            )
            check(database, runs, jobs=1)
        pages = api.calls()["calls"].get("page", 0)
        if pages != -(-runs // PAGE) or api.calls()["runs"]:
            raise ResultsError(f"the batch was not brought in by its pages: {api.calls()}")
    return figures


def one_by_one(new_database: NewDatabase, runs: int, concurrency: int) -> Figures:
    """Bring in single runs, each announced by a webhook and asked for by itself."""
    with new_database() as database, instant(runs) as api:
        service = Service(
            database, api.url, requests_per_second=HIGHEST_RATE, concurrency=concurrency
        )
        requests = run_requests(service.endpoint("account", None), map(run_id, range(runs)))
        with service.serving() as (process, port):
            figures = timed(database, api, [process.pid], runs, lambda: send(port, requests))
            check(database, runs, jobs=runs)
        check_calls(api, runs)
        calls = sum(api.calls()["calls"].values())
    return {**figures, "calls_per_run": calls / runs}


def by_workers(new_database: NewDatabase, runs: int, concurrency: int, count: int) -> Figures:
    """Measure `count` worker processes on webhooks that another process took in before."""
    with new_database() as database, instant(runs) as api:
        service = Service(
            # it holds over all of them together
            *(database, api.url),
            requests_per_second=HIGHEST_RATE,
            concurrency=concurrency * count,
        )
        requests = run_requests(service.endpoint("account", None), map(run_id, range(runs)))
        with service.serving(role="intake") as (_, port):
            send(port, requests)
        with service.working(count) as processes:
            pids = [process.pid for process in processes]
            figures = timed(database, api, pids, runs, lambda: None)
            check(database, runs, jobs=runs)
        check_calls(api, runs)
        between = seconds_between(database, runs // 10, runs * 9 // 10)
    return {**figures, "per_second": round(runs * 0.8 / between, 1)}


def _rounds(options: argparse.Namespace, measure: Callable[[], Figures]) -> Figures:
    found = []
    for _ in range(options.rounds):
        found.append(measure())
        note(f"{found[-1]}")
    return _medians(found)


def _medians(found: list[Figures]) -> Figures:
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


if __name__ == "__main__":
    sys.exit(main())
