"""kill -9 with 100,000 jobs waiting: how soon work goes on, and whether anything is lost or twice.

    python -m benchmarks.killed [--store postgres] [--jobs 100000] [--to-the-end]

Webhooks of single runs are taken in, each a job, while the worker works; behind the last of them
the process is killed and started again at once. Counted from the kill: when the next job is done,
and when those are free again that the killed process had in its hands. These are then put in front
(they are due behind all that waits), a thousand more are worked off (or all), the process is
stopped, and the books are looked at: every event has its job, every job that is done has one result
and was done once, none is dead.
"""
# All names in the statements are our own.
# ruff: noqa: S608

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import machine
from benchmarks.command import Command, note
from benchmarks.databases import NAMES, Database, NewDatabase, databases
from benchmarks.deliveries import run_requests
from benchmarks.fetching import DONE, SILENCE, Figures, ResultsError, send, until
from benchmarks.processes import Process, free_port
from benchmarks.rows import Row
from benchmarks.sender import instant
from benchmarks.servers.instant import run_id
from benchmarks.service import HIGHEST_RATE, Service
from storage import LEASE_SECONDS

WITHIN_SECONDS = 15.0
"""The promise of the README."""

CONCURRENCY = 32
EVERY = 0.05  # seconds between two looks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it."""
    command = Command("killed", __doc__)
    command.size("--jobs", 100_000, 1_000, "waiting")
    command.size("--more", 1_000, 100, "of them worked off after the kill")
    command.parser.add_argument("--to-the-end", action="store_true", help="work off all of them")
    options = command.read(arguments)
    where = machine.describe()
    with databases(options.store) as new_database:
        figures = measure(options, new_database)
    goes_on, free = figures["goes_on_seconds"], figures["free_seconds"]
    row = Row(
        f"after kill -9 with {figures['waiting']:,.0f} jobs waiting, work goes on:"
        f" {NAMES[options.store]}",
        f"{WITHIN_SECONDS:g} s, the design's lease; ours is {LEASE_SECONDS:g} s",
        f"{goes_on:.1f} s; the {figures['held']:.0f} it held free after {free:.1f} s;"
        " none lost, none twice",
        f"<= {WITHIN_SECONDS:g} s",
        None,
        goes_on <= WITHIN_SECONDS and free <= WITHIN_SECONDS,
    )
    return command.tell(options, where, [row], {"store": options.store, **figures}, f"{figures}")


def measure(options: argparse.Namespace, new_database: NewDatabase) -> Figures:
    """Fill, kill, start again, look, check."""
    with new_database() as database, instant(options.jobs) as api:
        service = Service(
            database, api.url, requests_per_second=HIGHEST_RATE, concurrency=CONCURRENCY
        )
        path = service.endpoint("account", None)
        before = _killed_behind(service, run_requests(path, map(run_id, range(options.jobs))))
        figures = _state(database)
        if not figures["held"] or figures["waiting"] < options.jobs / 2:
            raise ResultsError(f"the kill came too late or too early: {figures}")
        held = database.rows("SELECT id, lease_token FROM jobs WHERE status = 'running'")
        with service.serving() as _:
            figures["listens_seconds"] = round(time.monotonic() - before, 2)
            figures |= _followed(database, before, figures["done"], {token for _, token in held})
            _put_in_front(database, [number for number, _ in held])
            wanted = figures["done"] + options.more
            until(database, DONE, options.jobs if options.to_the_end else round(wanted))
        _check(database, options.jobs, to_the_end=options.to_the_end)
    return figures


def _killed_behind(service: Service, requests: list[bytes]) -> float:
    """Have webhooks taken in, and kill the process behind the last; when that was."""
    port = free_port()
    process: Process = service.start(port=port)
    try:
        process.await_port(port)
        send(port, requests)
    finally:
        process.kill()
    return time.monotonic()


def _state(database: Database) -> Figures:
    counts = dict(database.rows("SELECT status, count(*) FROM jobs GROUP BY status"))
    return {
        "waiting": counts.get("pending", 0),
        "held": counts.get("running", 0),
        "done": counts.get("done", 0),
    }


def _followed(database: Database, since: float, done: float, tokens: set[str]) -> Figures:
    """When the next job is done, and when nothing is under the killed process's leases."""
    listed = ", ".join(f"'{token}'" for token in tokens)
    left = f"SELECT count(*) FROM jobs WHERE lease_token IN ({listed})"
    return {
        "goes_on_seconds": _when(since, lambda: database.number(DONE) > done),
        "free_seconds": _when(since, lambda: database.number(left) == 0),
    }


def _put_in_front(database: Database, held: list[int]) -> None:
    """Have what the killed process held worked off now, and wait for that."""
    these = f"id IN ({', '.join(map(str, held))})"
    database.change(
        f"UPDATE jobs SET next_attempt_at = created_at WHERE {these} AND status = 'pending'"
    )
    done = f"SELECT count(*) FROM jobs WHERE {these} AND status = 'done'"
    until(database, done, len(held))


def _when(since: float, happened: Callable[[], Any]) -> float:
    while not happened():
        if time.monotonic() - since > LEASE_SECONDS + SILENCE:
            raise ResultsError("work did not go on after the kill")
        time.sleep(EVERY)
    found = round(time.monotonic() - since, 2)
    note(f"{found} s after the kill")
    return found


def _check(database: Database, jobs: int, *, to_the_end: bool) -> None:
    """The books, after a polite stop: what is given back may have its result already."""
    done = database.number(DONE)
    none = {
        "jobs dead": "SELECT count(*) FROM jobs WHERE status NOT IN ('pending', 'done')",
        "jobs done twice": "SELECT count(*) FROM (SELECT job_id FROM attempts"
        " WHERE outcome = 'done' GROUP BY job_id HAVING count(*) > 1) AS twice",
        "jobs done without a result": "SELECT count(*) FROM jobs WHERE status = 'done'"
        " AND subject NOT IN (SELECT run_id FROM runs JOIN results ON run_pk = runs.id)",
        "results in two versions": "SELECT count(*) FROM results WHERE version <> 1",
        "events without one job": f"SELECT {jobs} - count(DISTINCT event_id) FROM jobs",
        "jobs too many": f"SELECT count(*) - {jobs} FROM jobs WHERE event_id IS NOT NULL",
        "deliveries lost": f"SELECT {jobs} - count(*) FROM deliveries",
    }
    for what, count in none.items():
        if (found := database.number(count)) != 0:
            raise ResultsError(f"{what}: {found}")
    stored = database.number("SELECT count(*) FROM results")
    if not done <= stored <= done + CONCURRENCY or (to_the_end and stored != jobs):
        raise ResultsError(f"{done} jobs are done, and {stored} results stored")


if __name__ == "__main__":
    sys.exit(main())
