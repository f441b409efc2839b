"""A worker that is frozen for longer than its lease wakes up, and what it writes does nothing."""

import os
import signal
import time
from pathlib import Path

import pytest

from storage import LEASE_SECONDS
from tests.chaos.conftest import Note
from tests.chaos.places import on_a_server
from tests.chaos.postgres import Server
from tests.chaos.processes import Receiver, dice, sandbox
from tests.chaos.world import World
from tests.processes import until

ROUNDS = 3
FROZEN_SECONDS = LEASE_SECONDS + 5.0
TASKS = 23

pytestmark = pytest.mark.skipif(
    "CHAOS_KILLS" not in os.environ, reason="leases take their time: run by make chaos"
)


def test_worker_waking_after_lease_repeats_nothing(
    server: Server, tmp_path: Path, note: Note
) -> None:
    """SIGSTOP with leases held; another worker takes its jobs over; SIGCONT."""
    place, roles = on_a_server(server, tmp_path), ("intake", "worker", "worker")
    with (
        sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
        World(place, sender, dice(7), roles=roles) as world,
    ):
        world.open_batches(2)
        world.start()
        with world.pour(threads=2, pause=0.5) as pour:
            ended = [world.end_of(world.batch(f"batch {n}", tasks=TASKS)) for n in range(ROUNDS)]
            _slow(world)
            for number, announcement in enumerate(ended):
                frozen = world.receivers[1 + number % 2]
                world.announce(announcement)
                _freeze(world, frozen)
            world.sender.change(faults=[])
            world.fault_ended()
            recovered = world.settle(pour)
        shown = world.figures(
            "a worker frozen beyond its lease", pour.answers, faults=ROUNDS, recovered=recovered
        )
        note(shown)
        world.check(shown, pour.answers)
        logs = "".join(each.log.read_text() for each in world.receivers)
        assert "lease lost" in logs, "no job was taken over from a frozen worker"


def _slow(world: World) -> None:
    calls = {"match": "GET /deepresearch/**", "kind": "slow", "seconds": 0.3, "times": None}
    world.sender.change(faults=[calls])


def _freeze(world: World, receiver: Receiver) -> None:
    """Freeze it with leases in its hands for longer than those last."""
    assert receiver.process is not None
    until(lambda: world.books.number("SELECT count(*) FROM jobs WHERE status = 'running'") >= 4)
    receiver.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(FROZEN_SECONDS)
    finally:
        receiver.process.send_signal(signal.SIGCONT)
