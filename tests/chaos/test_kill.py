"""kill -9 at any moment loses nothing that was acknowledged and repeats nothing.

CHAOS_SEED and CHAOS_KILLS in the environment repeat a run, or make a longer one: `make chaos`.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from receiver.sandbox import SandboxServer
from tests.chaos import batches
from tests.chaos.books import Books, half_done, is_sound, lost, repeated
from tests.chaos.processes import Receiver, dice, sandbox
from tests.chaos.sending import Delivery, Maker, Pour
from tests.processes import until

KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
AT_ITS_START = 0.2  # the share of kills that come before it takes requests
BATCHES = 8
TASKS = 23  # five pages
RECOVERY_LIMIT = 120.0  # a job that was killed six times waits half a minute

Say = Callable[[str], None]


class Life:
    """Starts the receiver and kills it, over and over."""

    def __init__(self, receiver: Receiver, draw: random.Random) -> None:
        self.kills = 0
        self.most_claims = 0
        self.held_leases = 0
        self._receiver = receiver
        self._books = Books(receiver.database)
        self._draw = draw

    def live_and_die(self) -> None:
        """One life: killed while it starts, or at some moment under load."""
        process = self._receiver.launch()
        if self._draw.random() < AT_ITS_START:
            time.sleep(self._draw.uniform(0.05, 1.2))
        else:
            self._receiver.await_ready()
            time.sleep(self._draw.uniform(0.02, 0.6))
        assert process.poll() is None, self._receiver.log.read_text()[-2000:]
        self._receiver.kill()
        self.kills += 1
        self._look_at_the_leases()

    def _look_at_the_leases(self) -> None:
        query = "SELECT max(claims), count(lease_token) FROM jobs"
        claims, held = self._books.rows(query)[0]
        self.most_claims = max(self.most_claims, claims)
        self.held_leases += held


class Creator(threading.Thread):
    """Creates batches while the receiver dies and lives, and has the end of each announced."""

    def __init__(
        self, receiver: Receiver, sender: SandboxServer, maker: Maker, draw: random.Random
    ) -> None:
        super().__init__(daemon=True)
        self.created: list[str] = []
        self.error: BaseException | None = None
        self._receiver = receiver
        self._sender = sender
        self._maker = maker
        self._draw = draw

    def run(self) -> None:
        try:
            for number in range(BATCHES):
                time.sleep(self._draw.uniform(0.0, KILLS / BATCHES))
                self._create(f"batch {number}")
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self.error = error

    def _create(self, name: str) -> None:
        batch_id = batches.create(self._receiver, name, tasks=TASKS)
        self.created.append(batch_id)
        endpoint = batches.endpoint_of(self._receiver, batch_id)
        until(lambda: batches.has_ended(self._sender, batch_id))
        body = batches.batch_at_sender(self._sender, batch_id)
        self._maker.announced.append(Delivery(endpoint, body))


def test_nothing_acknowledged_is_lost_and_nothing_repeated_by_kills(
    tmp_path: Path, say: Say
) -> None:
    """At least KILLS kills, deliveries and batches pouring in; then one start, and no help."""
    draw = dice(SEED)
    say(f"seed {SEED}")
    with sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender:
        receiver = Receiver(tmp_path, sender.api_url)
        going_on = [batches.create(receiver, f"open {number}", tasks=0) for number in range(3)]
        maker = Maker([batches.endpoint_of(receiver, each) for each in going_on], draw)
        life, creator = Life(receiver, draw), Creator(receiver, sender, maker, draw)
        try:
            with Pour(receiver.port, maker.make, draw=draw) as pour:
                creator.start()
                while life.kills < KILLS or creator.is_alive():
                    life.live_and_die()
                receiver.start()
                until(lambda: not maker.announced)
                pour.finish()
            assert creator.error is None, creator.error
            _check(receiver, sender, pour, life, creator.created, say)
        finally:
            receiver.end()


def _check(
    receiver: Receiver,
    sender: SandboxServer,
    pour: Pour,
    life: Life,
    created: list[str],
    say: Say,
) -> None:
    books, answers = Books(receiver.database), pour.answers
    assert lost(books, answers.acknowledged) == 0
    waiting, began = books.unfinished(), time.monotonic()
    until(
        lambda: not books.unfinished() and not books.open_batches(),
        seconds=RECOVERY_LIMIT,
    )
    missing, twice = lost(books, answers.acknowledged), repeated(books)
    found_again = sum(outcome == "duplicate" for outcome in answers.acknowledged.values())
    say(
        f"kills {life.kills}, acknowledged {len(answers.acknowledged)}, lost {missing}, "
        f"repeated {twice}; answers cut off {answers.cut}, of them stored {found_again}; leases "
        f"held at a kill {life.held_leases}, most claims of a job {life.most_claims}; "
        f"{waiting} jobs left, done in {time.monotonic() - began:.1f} s"
    )
    assert missing == 0
    assert twice == 0
    assert half_done(books) == 0
    assert is_sound(books)
    _check_that_it_was_a_test(life, pour)
    assert max(answers.accepted.values()) == 1
    assert set(answers.other) <= {503}
    for batch_id in created:
        told = batches.outputs_at_sender(sender, batch_id)
        assert len(told) == TASKS
        assert batches.outputs_here(books, batch_id) == told


def _check_that_it_was_a_test(life: Life, pour: Pour) -> None:
    """Enough kills, enough of them amid work, enough answers."""
    assert life.kills >= KILLS
    assert life.held_leases >= KILLS
    assert len(pour.answers.acknowledged) >= 5 * KILLS
    assert pour.answers.cut >= KILLS
