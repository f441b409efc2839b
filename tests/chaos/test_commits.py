"""A death at the Nth COMMIT, for every N there is, loses nothing and repeats nothing."""

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from receiver.sandbox import SandboxServer
from tests.chaos import batches
from tests.chaos.books import half_done, is_sound, lost, repeated
from tests.chaos.conftest import Note, Say
from tests.chaos.figures import Figures
from tests.chaos.places import POSTGRES, SQLITE, Place, in_a_file, on_a_server
from tests.chaos.postgres import Server
from tests.chaos.pour import Answers, Lines
from tests.chaos.processes import Receiver, dice, sandbox
from tests.chaos.sending import Delivery, Maker
from tests.processes import until

LONG = "CHAOS_KILLS" in os.environ
ONE = {"before": 8, "after": 4}
"""The deaths of the short form; the long one goes on until nobody dies any more."""

AT_ONCE = 4
TASKS = 7  # three pages


@dataclass(frozen=True)
class Journey:
    """The outcome of one small journey with one death in it."""

    died: bool
    answers: Answers
    lost: int
    repeated: int
    commits: int
    recovered: float


@pytest.mark.parametrize("kind", [SQLITE, POSTGRES])
@pytest.mark.parametrize("when", ["before", "after"])
def test_death_at_any_commit_loses_nothing(
    when: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path, note: Note, say: Say
) -> None:
    """Deliveries, a batch that is listed page by page, its results, the end of its checks."""
    server = request.getfixturevalue("server") if kind == POSTGRES else None
    making = threading.Lock()
    with sandbox(max_page_size=3, duration=0, webhook=False) as sender:

        def travel(nth: int) -> Journey:
            folder = tmp_path / f"death {nth}"
            folder.mkdir()
            with making:
                place = _place(server, folder)
            return _travel(place, sender, when, nth)

        travelled = list(_until_nobody_dies(travel) if LONG else [travel(ONE[when])])
    which = "each COMMIT" if LONG else f"the COMMIT no. {ONE[when]}"
    deaths = [journey for journey in travelled if journey.died]
    say(f"commits of one journey: {max(journey.commits for journey in travelled)}")
    note(_summary(f"death {when} {which}", kind, deaths))
    assert deaths
    assert not sum(journey.lost + journey.repeated for journey in travelled)


def _at_once(travel: Callable[[int], Journey], deaths: Iterable[int]) -> list[Journey]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(travel, deaths))


def _until_nobody_dies(travel: Callable[[int], Journey]) -> Iterator[Journey]:
    """Journeys with deaths later and later, some at once, up to the first without any."""
    for first in itertools.count(1, AT_ONCE):
        group = _at_once(travel, range(first, first + AT_ONCE))
        yield from group
        if not all(journey.died for journey in group):
            return


def _place(server: Server | None, folder: Path) -> Place:
    return in_a_file(folder) if server is None else on_a_server(server, folder)


def _summary(scenario: str, kind: str, deaths: list[Journey]) -> Figures:
    return Figures(
        scenario=scenario,
        database=kind,
        faults=len(deaths),
        acknowledged=sum(len(journey.answers.acknowledged) for journey in deaths),
        refused=sum(journey.answers.refused for journey in deaths),
        slowest=max((j.answers.slowest_refusal or 0.0 for j in deaths), default=0.0) or None,
        lost=sum(journey.lost for journey in deaths),
        repeated=sum(journey.repeated for journey in deaths),
        recovered=max((journey.recovered for journey in deaths), default=0.0),
    )


def _travel(place: Place, sender: SandboxServer, when: str, nth: int) -> Journey:
    """One journey; the process dies at its Nth COMMIT, and is started again without that."""
    receiver, count = Receiver(place, sender.api_url), place.folder / "commits"
    with _dying(receiver, when, nth, count) as deaths:
        answers = _deliver_and_bring_in(receiver, sender)
        over = time.monotonic()
    books = place.books
    assert half_done(books) == 0
    assert is_sound(books)
    assert max(answers.accepted.values()) == 1
    return Journey(
        died=bool(deaths),
        answers=answers,
        lost=lost(books, answers.acknowledged),
        repeated=repeated(books),
        commits=count.stat().st_size,
        recovered=over - deaths[0] if deaths else 0.0,
    )


@contextmanager
def _dying(receiver: Receiver, when: str, nth: int, count: Path) -> Iterator[list[float]]:
    """Run it, wrapped so that it dies; whoever watches over it starts it again, once."""
    command = (sys.executable, "-m", "tests.chaos.dying", when, str(nth))
    env = {"DYING_COUNT": str(count), "PYTHONPATH": _path()}
    receiver.launch(command=command, env=env)
    over, deaths = threading.Event(), list[float]()

    def watch() -> None:
        while not over.wait(0.02):
            if not deaths and receiver.was_killed():
                deaths.append(time.monotonic())
                receiver.launch()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield deaths
    finally:
        over.set()
        watcher.join()
        receiver.end()


def _path() -> str:
    """Return a PYTHONPATH with which the tests are a package in any working directory."""
    root = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _deliver_and_bring_in(receiver: Receiver, sender: SandboxServer) -> Answers:
    """All that a service does for one batch, with what comes twice and what is forged."""
    until(lambda: receiver.get("/readyz") == 200)
    batch_id = batches.create(receiver, "one", tasks=TASKS)
    endpoint = batches.endpoint_of(receiver, batch_id)
    maker, chance = Maker([endpoint], dice(7)), dice(7)
    until(lambda: batches.has_ended(sender, batch_id))
    end = Delivery(endpoint, batches.batch_at_sender(sender, batch_id))
    again = Delivery(endpoint, end.body + b" ")  # the same event, said otherwise
    answers = Answers()
    lines = Lines([receiver.port], answers, threading.Lock())
    for delivery in (maker.make(), end, end, again, maker.make()):
        until(lambda sent=delivery: lines.send(sent, chance))  # type: ignore[misc]
    lines.close()
    books = receiver.books
    until(lambda: not books.unfinished() and not books.open_batches())
    until(lambda: not books.checks_of(batch_id))
    assert books.outputs(batch_id) == batches.outputs_at_sender(sender, batch_id)
    return answers
