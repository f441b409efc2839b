"""A polite stop loses no more than a kill: what was answered is kept, leases are given back."""

import os
import time
from pathlib import Path

from tests.chaos.books import lost
from tests.chaos.conftest import Note, Say
from tests.chaos.places import Place
from tests.chaos.processes import dice, sandbox
from tests.chaos.world import World

STOPS = 10 if "CHAOS_KILLS" in os.environ else 1


def test_polite_stops_under_load_lose_nothing(
    place: Place, tmp_path: Path, say: Say, note: Note
) -> None:
    """SIGTERM amid deliveries and fetches: exit code 0, no job left in dead hands."""
    with sandbox() as sender, World(place, sender, dice(7), logs=tmp_path) as world:
        world.open_batches(1)
        (receiver,) = world.receivers
        with world.pour() as pour:
            for _ in range(STOPS):
                receiver.start()
                world.more(pour, 20)
                time.sleep(world.chance.uniform(0.0, 0.5))
                code = receiver.stop()
                held = world.books.rows("SELECT status, claims, count(*) FROM jobs GROUP BY 1, 2")
                say(f"exit code {code}, jobs (status, claims, how many): {held}")
                assert lost(world.books, list(pour.answers.acknowledged)) == 0
                assert {row[0] for row in held} <= {"pending", "done"}, "leases not given back"
                assert {row[1] for row in held} <= {0}, "a claim was counted although we stopped"
                assert code == 0, receiver.end_of_log()
            world.fault_ended()
            receiver.start()
            recovered = world.settle(pour)
        shown = world.figures("polite stops", pour.answers, faults=STOPS, recovered=recovered)
        note(shown)
        world.check(shown, pour.answers)
        assert shown.acknowledged > 10 * STOPS
