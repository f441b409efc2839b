"""A database that is gone for a while: refused in time while it lasts, recovered without help."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.chaos.conftest import Note, Say
from tests.chaos.places import Place, on_a_server
from tests.chaos.postgres import FAST, IMMEDIATE, Server
from tests.chaos.pour import Pour
from tests.chaos.processes import dice, sandbox
from tests.chaos.proxy import Proxy
from tests.chaos.sending import Delivery
from tests.chaos.world import World, in_time
from tests.pgbouncer import PgBouncer
from tests.processes import until

LONG = "CHAOS_KILLS" in os.environ
ROUNDS = 3 if LONG else 1
OUTAGE_SECONDS = 5.0 if LONG else 1.0
TASKS = 23

Begin = Callable[[Server, Proxy], None]


def _stop(how: signal.Signals) -> Begin:
    return lambda server, _: server.stop(how)


def _restart(server: Server, _: Proxy) -> None:
    server.start()


FAULTS: dict[str, tuple[Begin, Begin]] = {
    "stopped (fast), restarted": (_stop(FAST), _restart),
    "stopped (immediate), restarted": (_stop(IMMEDIATE), _restart),
    "server killed with -9, restarted": (_stop(signal.SIGKILL), _restart),
    "network silent, then goes on": (lambda _, p: p.fall_silent(), lambda _, p: p.go_on()),
    "network silent, old connections dead": (
        lambda _, p: p.fall_silent(),
        lambda _, p: p.go_on_anew(),
    ),
    "network resets": (lambda _, p: p.cut(), lambda _, p: p.go_on()),
}
"""The ways in which the database goes away, each with the way in which it comes back."""

SHORT = [
    "stopped (immediate), restarted",
    "network silent, old connections dead",
    "network resets",
]

CASES = (
    [(name, [name] * ROUNDS) for name in FAULTS] if LONG else [("stopped; silent; resets", SHORT)]
)


@dataclass(frozen=True)
class Outage:
    """A fault of the database: its begin and its end."""

    begin: Callable[[], None]
    end: Callable[[], None]
    is_total: bool = True
    """True if nothing at all can be written; a lock may leave what readiness writes alone."""


@pytest.mark.parametrize(("name", "faults"), CASES, ids=[name for name, _ in CASES])
def test_lost_postgres_is_503_then_recovers(
    name: str, faults: list[str], server: Server, tmp_path: Path, note: Note, say: Say
) -> None:
    """Intake and worker are cut off from it together, in the midst of deliveries and fetches."""
    server.start()
    with closing(Proxy(server.port)) as proxy:
        place = on_a_server(server, tmp_path, port=proxy.port)

        def outage(fault: str) -> Outage:
            begin, end = FAULTS[fault]
            return Outage(lambda: begin(server, proxy), lambda: end(server, proxy))

        _go_through(place, name, [outage(fault) for fault in faults], note, say)


def test_lost_pooler_is_503_then_recovers(
    server: Server, pooler: PgBouncer, tmp_path: Path, note: Note, say: Say
) -> None:
    """A PgBouncer in transaction mode is gone for a while, and then the server behind it."""
    place = on_a_server(server, tmp_path, port=pooler.port)
    outages = [
        Outage(pooler.stop, pooler.start),
        Outage(lambda: server.stop(IMMEDIATE), server.start),
    ]
    _go_through(place, "PgBouncer gone; server behind it", outages, note, say)


def test_foreign_lock_is_answered_503_in_time(place: Place, note: Note, say: Say) -> None:
    """An operator's open transaction: no write gets in, for much longer than a sender may wait."""
    holding = _file_locked(place) if not place.is_shared else _tables_locked(place)
    lock = Outage(lambda: next(holding), lambda: next(holding), is_total=not place.is_shared)
    _go_through(place, "locked by another program", [lock], note, say)


def _file_locked(place: Place) -> Iterator[None]:
    with closing(sqlite3.connect(place.database, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        yield


def _tables_locked(place: Place) -> Iterator[None]:
    with psycopg.connect(place.books_url) as other:
        other.execute("LOCK TABLE events, jobs IN EXCLUSIVE MODE")
        yield
        other.rollback()
        yield


def _go_through(place: Place, name: str, outages: list[Outage], note: Note, say: Say) -> None:
    """Each outage begins amid load and the fetching of a batch; then the promises hold."""
    with _world(place, batches=len(outages)) as (world, ended), world.pour() as pour:
        for outage, announcement in zip(outages, ended, strict=True):
            world.more(pour, 20)
            world.announce(announcement)
            time.sleep(0.1)
            outage.begin()
            _last(world, pour, tells=outage.is_total)
            outage.end()
            world.fault_ended()
            began = time.monotonic()
            world.more(pour, 20)
            say(f"{name}: deliveries are taken in again after {time.monotonic() - began:.1f} s")
        recovered = world.settle(pour)
        shown = world.figures(name, pour.answers, faults=len(outages), recovered=recovered)
        note(shown)
        world.check(shown, pour.answers)
        assert shown.refused > 10 * len(outages)
        codes = [receiver.stop() for receiver in world.receivers]
        assert set(codes) == {0}, "a polite stop hung or failed after it"
        assert pour.answers.cut == 0, "a sender was not answered at all"
        assert in_time(pour.answers), f"an answer took {pour.answers.slowest:.2f} s"


@contextmanager
def _world(place: Place, *, batches: int) -> Iterator[tuple[World, list[Delivery]]]:
    roles = ("intake", "worker") if place.is_shared else ("all",)
    with (
        sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
        World(place, sender, dice(7), roles=roles) as world,
    ):
        world.open_batches(2)
        world.start()
        made = [world.batch(f"batch {number}", tasks=TASKS) for number in range(batches)]
        yield world, [world.end_of(batch_id) for batch_id in made]


def _last(world: World, pour: Pour, *, tells: bool) -> None:
    """For some seconds nothing can be stored: that is said, and we are alive."""
    began, refused = time.monotonic(), pour.answers.refused
    (intake, *_) = world.receivers
    until(lambda: pour.answers.refused > refused + 10)
    assert intake.get("/readyz") == 503 or not tells
    assert intake.get("/healthz") == 200
    time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
