"""Fetching results: webhooks are sent, results waited for, and the store is checked."""
# All names in the statements are our own.
# ruff: noqa: S608

import time
from collections.abc import Callable
from datetime import datetime

from benchmarks.databases import Database
from benchmarks.load import LoadError, closed_loop
from benchmarks.processes import HOST, cpu_seconds
from benchmarks.sender import Api

SILENCE = 60.0  # seconds without a further result after which nothing more will come
DONE = "SELECT count(*) FROM jobs WHERE event_id IS NOT NULL AND status = 'done'"
CONNECTIONS = 16  # of the sender of webhooks

Figures = dict[str, float]


class ResultsError(Exception):
    """The store does not hold the results that the sender has."""


def timed(
    database: Database, api: Api, pids: list[int], runs: int, begin: Callable[[], None]
) -> Figures:
    """The rate from `begin` until the last result is seen, and how busy both sides were."""
    cpu, theirs, stored = sum(map(cpu_seconds, pids)), api.cpu(), database.cpu()
    began = time.perf_counter()
    begin()
    until(database, "SELECT count(*) FROM results", runs)
    seconds = time.perf_counter() - began
    return {
        "per_second": round(runs / seconds, 1),
        "seconds": round(seconds, 2),
        "our_cores": round((sum(map(cpu_seconds, pids)) - cpu) / seconds, 2),
        "sender_cores": round((api.cpu() - theirs) / seconds, 2),
        "database_cores": round((database.cpu() - stored) / seconds, 2),
    }


def send(port: int, requests: list[bytes]) -> None:
    """Send webhooks as fast as they are answered, each with 200."""
    load = closed_loop([(HOST, port)], requests, connections=CONNECTIONS, seconds=600.0)
    if load.stored != len(requests):
        raise LoadError(f"{load.stored} of {len(requests)} webhooks were answered 200")


def until(database: Database, count: str, wanted: int) -> None:
    """Look ten times a second, until nothing has moved for long."""
    seen, since = -1, time.monotonic()
    while (found := database.number(count)) < wanted:
        if found > seen:
            seen, since = found, time.monotonic()
        elif time.monotonic() - since > SILENCE:
            raise ResultsError(f"{found} of {wanted}, and no more for {SILENCE:.0f} s: {count}")
        time.sleep(0.1)


def check(database: Database, runs: int, *, jobs: int) -> None:
    """Every run once, with one result in its first version; the events' jobs all done, or soon."""
    until(database, DONE, jobs)
    counts = {
        "SELECT count(*) FROM runs WHERE status = 'completed'": runs,
        "SELECT count(*) FROM results WHERE version = 1 AND is_current": runs,
        "SELECT count(*) FROM results": runs,
        "SELECT count(*) FROM jobs WHERE event_id IS NOT NULL AND status <> 'done'": 0,
        "SELECT count(*) FROM batches WHERE state <> 'complete'": 0,
    }
    for count, wanted in counts.items():
        if (found := database.number(count)) != wanted:
            raise ResultsError(f"{count}: {found}, not {wanted}")


def check_calls(api: Api, runs: int) -> None:
    """Each run was asked for once."""
    calls = api.calls()
    if (calls["runs"], calls["most"]) != (runs, 1):
        raise ResultsError(f"{runs} runs were not asked for once each: {calls}")


def seconds_between(database: Database, first: int, last: int) -> float:
    """The time from one result to another, counted in the order in which they were stored."""
    return (_stored_at(database, last) - _stored_at(database, first)).total_seconds()


def _stored_at(database: Database, place: int) -> datetime:
    found = database.rows(
        f"SELECT stored_at FROM results ORDER BY stored_at LIMIT 1 OFFSET {place}"
    )[0][0]
    return found if isinstance(found, datetime) else datetime.fromisoformat(found)
