"""A sender's API that is down, slow or busy while its deliveries pour in: they are all taken in."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import Note, Say
from tests.chaos.places import POSTGRES, SQLITE, Place
from tests.chaos.processes import dice, sandbox
from tests.chaos.world import World, in_time
from tests.processes import until

LONG = "CHAOS_KILLS" in os.environ
FAULT_SECONDS = 12.0 if LONG else 1.0
BATCHES = 4 if LONG else 1
TASKS = 23
EVERYTHING = "GET /deepresearch/**"

FAULTS: dict[str, dict[str, Any]] = {
    "down (resets)": {"kind": "reset"},
    "down (502, HTML)": {"kind": "html"},
    "silent": {"kind": "hang", "seconds": 3.0},
    "slow": {"kind": "slow", "seconds": 2.0},
    "answering 429": {"kind": "status", "status": 429, "retry_after": 1},
}
SHORT = ["down (resets)", "answering 429"]
CASES = [[name] for name in FAULTS] if LONG else [SHORT]
KINDS = [SQLITE, POSTGRES] if LONG else [SQLITE]
"""In the short form the one process that does everything, which has most to suffer."""


@pytest.mark.parametrize("place", KINDS, indirect=True)
@pytest.mark.parametrize("names", CASES, ids=", ".join)
def test_sender_outages_lose_no_delivery(
    names: list[str], place: Place, tmp_path: Path, note: Note, say: Say
) -> None:
    """Nothing is refused, for none of it needs the sender; its results come when it can again."""
    roles = ("intake", "worker") if place.is_shared else ("all",)
    with (
        sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
        World(place, sender, dice(7), roles=roles, logs=tmp_path) as world,
    ):
        world.open_batches(2)
        world.start()
        with world.pour(threads=2, pause=0.5) as pour:
            for name in names:
                ended = [world.end_of(world.batch(name, tasks=TASKS)) for _ in range(BATCHES)]
                sender.change(faults=[{"match": EVERYTHING, "times": None, **FAULTS[name]}])
                world.announce(*ended)
                before = len(pour.answers.acknowledged)
                time.sleep(FAULT_SECONDS)
                until(lambda: len(pour.answers.acknowledged) > before + BATCHES)  # noqa: B023
                assert world.books.unfinished(), "the sender's trouble was not felt"
                sender.change(faults=[])
            recovered = world.settle(pour)
        shown = world.figures(
            f"sender's API {', '.join(names)}", pour.answers, faults=len(names), recovered=recovered
        )
        note(shown)
        world.check(shown, pour.answers)
        assert shown.refused == 0
        assert pour.answers.cut == 0
        assert in_time(pour.answers), f"an answer took {pour.answers.slowest:.2f} s"
