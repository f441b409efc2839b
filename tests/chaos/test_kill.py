"""kill -9 at any moment loses nothing that was acknowledged and repeats nothing.

CHAOS_SEED and CHAOS_KILLS in the environment repeat a run, or make a longer one: `make chaos`.
"""

import os
import random
import threading
import time
from pathlib import Path

from tests.chaos.conftest import Note, Say
from tests.chaos.figures import Figures
from tests.chaos.places import Place, on_a_server
from tests.chaos.postgres import Server
from tests.chaos.pour import Pour
from tests.chaos.processes import Receiver, dice, sandbox
from tests.chaos.world import World
from tests.pgbouncer import PgBouncer
from tests.processes import until

LONG = "CHAOS_KILLS" in os.environ
KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
AT_ITS_START = 0.2  # the share of kills that come before it takes requests
BATCHES = 8 if LONG else 2
TASKS = 23  # five pages
ROLES = ("intake", "intake", "worker", "worker") if LONG else ("intake", "worker")

SLOW = {"match": "GET /deepresearch/batches/**", "kind": "slow", "seconds": 0.1, "times": None}
"""Few kills must meet leases all the same."""


class Lives:
    """Kills one process of several and starts it again, over and over; the others go on.

    Each of them once amid its work, then any of them at any moment.
    """

    def __init__(self, world: World, pour: Pour) -> None:
        self.kills = 0
        self.most_claims = 0
        self.held_leases = 0
        self._world = world
        self._pour = pour

    def begin(self) -> None:
        for receiver in self._world.receivers:
            receiver.launch()

    def one_dies(self) -> None:
        """Killed while it starts, or at some moment under load; and started again."""
        chance, lives = self._world.chance, self._world.receivers
        is_first = self.kills < len(lives)
        victim = lives[self.kills] if is_first else chance.choice(lives)
        if not is_first and chance.random() < AT_ITS_START:
            self._kill(victim)
            victim.launch()
            time.sleep(chance.uniform(0.05, 1.2))
        else:
            victim.await_ready()
            if is_first:
                self._world.more(self._pour, 20)
            if is_first and victim is lives[-1]:  # a worker, which dies with leases
                until(self._held)
            else:
                time.sleep(chance.uniform(0.02, 0.6))
        self._kill(victim)
        victim.launch()

    def _held(self) -> int:
        return int(self._world.books.rows("SELECT count(lease_token) FROM jobs")[0][0])

    def _kill(self, victim: Receiver) -> None:
        assert victim.process is not None
        assert victim.process.poll() is None, victim.end_of_log()
        victim.kill()
        self.kills += 1
        claims = self._world.books.rows("SELECT max(claims) FROM jobs")[0][0]
        self.most_claims = max(self.most_claims, claims or 0)
        self.held_leases += self._held()


class Creator(threading.Thread):
    """Creates batches while processes die and live, and has the end of each announced."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._world = world

    def run(self) -> None:
        try:
            for number in range(BATCHES):
                time.sleep(self._world.chance.uniform(0.0, KILLS / BATCHES))
                batch_id = self._world.batch(f"batch {number}", tasks=TASKS)
                self._world.announce(self._world.end_of(batch_id))
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self.error = error


def test_kills_lose_and_repeat_nothing(place: Place, tmp_path: Path, say: Say, note: Note) -> None:
    """KILLS kills, deliveries and batches pouring in; then one start, and no help."""
    _kill_and_settle("kill -9 at random", place, tmp_path, say, note)


def test_kills_behind_pooler_lose_and_repeat_nothing(
    server: Server, pooler: PgBouncer, tmp_path: Path, say: Say, note: Note
) -> None:
    """Kill it behind a PgBouncer in transaction mode, where no process has a session."""
    place = on_a_server(server, tmp_path, port=pooler.port)
    _kill_and_settle("kill -9, behind PgBouncer", place, tmp_path, say, note)


def _kill_and_settle(name: str, place: Place, folder: Path, say: Say, note: Note) -> None:
    say(f"seed {SEED}")
    roles = ROLES if place.is_shared else ("all",)
    with (
        sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
        World(place, sender, dice(SEED), roles=roles, logs=folder) as world,
    ):
        world.open_batches(3)
        creator = Creator(world)
        world.sender.change(faults=[] if LONG else [SLOW])
        with world.pour() as pour:
            lives = Lives(world, pour)
            lives.begin()
            creator.start()
            while lives.kills < KILLS:
                lives.one_dies()
            world.fault_ended()
            creator.join()
            assert creator.error is None, creator.error
            world.sender.change(faults=[])
            recovered = world.settle(pour)
        shown = world.figures(name, pour.answers, faults=lives.kills, recovered=recovered)
        note(shown)
        world.check(shown, pour.answers)
        _check_that_it_was_a_test(lives, pour, shown, say)


def _check_that_it_was_a_test(lives: Lives, pour: Pour, shown: Figures, say: Say) -> None:
    """Enough kills, enough of them amid work, enough answers."""
    answers = pour.answers
    again = sum(outcome == "duplicate" for outcome in answers.acknowledged.values())
    say(
        f"answers cut off {answers.cut}, of them stored {again}; leases held at a kill "
        f"{lives.held_leases}, most claims of a job {lives.most_claims}"
    )
    assert shown.faults >= KILLS
    assert lives.held_leases >= (KILLS if LONG else KILLS // 3)
    assert shown.acknowledged >= (5 if LONG else 2) * KILLS
    assert answers.cut >= KILLS // 3
