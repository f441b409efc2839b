"""A primary fails over to its standby: senders wait for a moment, and nothing is lost."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import storage
from tests.chaos import pair
from tests.chaos.conftest import Note, Say
from tests.chaos.pair import Pair
from tests.chaos.places import POSTGRES, Place, upgrade
from tests.chaos.processes import dice, sandbox
from tests.chaos.proxy import Proxy
from tests.chaos.world import World
from tests.processes import DEADLINE, environment

LONG = "CHAOS_KILLS" in os.environ
ROUNDS = 3 if LONG else 1
TASKS = 23
ACCEPTED_SECONDS = 10.0
"""Within this deliveries are taken in again, on a machine that does nothing else."""

FAULTS: dict[str, Callable[[Pair], None]] = {
    "old primary answers read-only": Pair.hand_over,
    "old primary is gone": Pair.lose,
}
ADDRESSES = ("one name", "several servers")

SHORT = [("one name", "old primary answers read-only"), ("several servers", "old primary is gone")]
CASES = [(address, fault) for address in ADDRESSES for fault in FAULTS] * ROUNDS if LONG else SHORT


@pytest.mark.parametrize(("address", "fault"), CASES)
def test_failover_loses_nothing(
    address: str, fault: str, tmp_path: Path, note: Note, say: Say
) -> None:
    """Amid deliveries, the fetching of a batch, and a command that waits for it."""
    with pair.running() as servers, closing(Proxy(servers.primary.port)) as name:
        place = _place(servers, name, address, tmp_path)
        with (
            sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
            World(place, sender, dice(7), roles=("intake", "worker")) as world,
        ):
            world.open_batches(2)
            world.start()
            batch_id = world.batch("batch", tasks=TASKS)
            ended = world.end_of(batch_id)
            with world.pour() as pour, _waiting(world, batch_id) as waiting:
                world.more(pour, 20)
                FAULTS[fault](servers)
                name.lead_to(servers.standby.port)
                world.fault_ended()
                began = time.monotonic()
                world.announce(ended)
                world.more(pour, 20)
                again = time.monotonic() - began
                say(f"{address}, {fault}: deliveries are taken in again after {again:.1f} s")
                recovered = world.settle(pour)
                assert waiting.wait(DEADLINE) == 0, "`batch wait` did not see the end"
            shown = world.figures(f"failover: {fault}", pour.answers, faults=1, recovered=recovered)
            note(shown)
            world.check(shown, pour.answers)
            assert again < ACCEPTED_SECONDS * (1 if LONG else 3)


def _place(servers: Pair, name: Proxy, address: str, folder: Path) -> Place:
    database = servers.primary.new_database()
    url = servers.url(database)
    if address == "one name":
        url = servers.primary.url(database, port=name.port)
    key = storage.new_key()
    place = Place(POSTGRES, url, servers.books_url(database), folder, key, servers.primary)
    upgrade(place)
    return place


def _waiting(world: World, batch_id: str) -> subprocess.Popen[bytes]:
    (receiver, *_) = world.receivers
    command = [sys.executable, "-m", "receiver", "batch", "wait", batch_id, "--source", "valyu"]
    return subprocess.Popen(  # noqa: S603  our own program
        command, env=environment(receiver.settings), stdout=subprocess.DEVNULL
    )
