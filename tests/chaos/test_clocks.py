"""A clock that jumps an hour forward and back: nothing is lost, repeated or stuck that long."""

import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import LEASE_SECONDS, RENEW_SECONDS
from tests.chaos.conftest import Note
from tests.chaos.places import POSTGRES, SQLITE, Place, in_a_file, on_a_server
from tests.chaos.postgres import Server
from tests.chaos.processes import dice, sandbox
from tests.chaos.traces import build_shim
from tests.chaos.world import World
from tests.processes import until

HOUR = 3600
LONG = "CHAOS_KILLS" in os.environ
JUMPS = {"forward": HOUR, "back": -HOUR}
DIRECTIONS = list(JUMPS) if LONG else ["forward"]

NOTICED_SECONDS = 6.0
"""Processes on Postgres look at its clock every five seconds."""

LET_GO_SECONDS = LEASE_SECONDS + RENEW_SECONDS + 60.0
"""The lease, the look for those that ran out, and what a busy machine may add."""

TASKS = 12


class Clock:
    """The clock of all processes with this environment, in a folder that everybody may read."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-clock-"))
        self._folder.chmod(0o755)
        self._file = self._folder / "offset"
        self.jump_to(0)
        library = build_shim(self._folder, "clock.c")
        if library is None:
            self.close()
            pytest.skip("there is no C compiler: install gcc, as .ci/run does")
        self.env = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def jump_to(self, offset: int) -> None:
        """Be off by so many seconds from now on; the file stays the one that is mapped."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, struct.pack("q", offset), 0)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        shutil.rmtree(self._folder)


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.close()


@pytest.fixture(params=[SQLITE, POSTGRES])
def place(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Place]:
    """A database on a machine with that clock: its server has it, too."""
    if request.param == SQLITE:
        yield in_a_file(tmp_path)
    else:
        with closing(Server(env=clock.env)) as server:
            yield on_a_server(server, tmp_path)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_jumping_clock_loses_and_delays_nothing(
    direction: str, place: Place, clock: Clock, tmp_path: Path, note: Note
) -> None:
    """It jumps amid held leases and due retries, just after a worker has died with its leases."""
    roles = ("intake", "worker") if place.is_shared else ("all",)
    with (
        sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
        World(place, sender, dice(7), roles=roles, logs=tmp_path, env=clock.env) as world,
    ):
        world.open_batches(2)
        world.start()
        ended = [world.end_of(world.batch(f"batch {number}", tasks=TASKS)) for number in range(2)]
        with world.pour(threads=3, pause=0.3) as pour:
            _trouble(world)
            world.announce(ended[0])
            held = until(lambda: _held(world))
            world.receivers[-1].kill()
            clock.jump_to(JUMPS[direction])
            world.receivers[-1].start()
            if place.is_shared:
                time.sleep(NOTICED_SECONDS)
            world.announce(ended[1])
            world.more(pour, 20)
            world.sender.change(faults=[])
            world.fault_ended()
            until(lambda: not held & _held(world), seconds=LET_GO_SECONDS)
            recovered = world.settle(pour)
        scenario = f"the clock jumps an hour {direction}"
        shown = world.figures(scenario, pour.answers, faults=1, recovered=recovered)
        note(shown)
        world.check(shown, pour.answers)


def _trouble(world: World) -> None:
    """Calls that take a while, so that leases are held; some fail, so that retries are due."""
    calls = {"match": "GET /deepresearch/batches/**"}
    fails = {**calls, "kind": "status", "status": 500, "times": 10}
    world.sender.change(faults=[fails, {**calls, "kind": "slow", "seconds": 0.5, "times": 40}])


def _held(world: World) -> set[tuple[object, ...]]:
    """The jobs in somebody's hands, each with its lease."""
    return set(world.books.rows("SELECT id, lease_token FROM jobs WHERE status = 'running'"))
