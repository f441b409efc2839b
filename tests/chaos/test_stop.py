"""A polite stop loses no more than a kill; a full disk refuses, and is forgotten once it is not."""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from random import Random

import pytest

from tests.chaos import batches
from tests.chaos.books import Books, half_done, lost, repeated
from tests.chaos.processes import HOST, Receiver, dice, sandbox
from tests.chaos.sending import Answers, Delivery, Maker, Pour, post
from tests.processes import DEADLINE, until

STOPS = 5
GRACE = 20.0  # twice what uvicorn gives to requests under way
ANSWER_SECONDS = 2.0
MEBIBYTE = 1024 * 1024

Say = Callable[[str], None]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver with a sender whose batches go on and on; started by the test."""
    with sandbox() as sender:
        made = Receiver(tmp_path, sender.api_url)
        yield made
        made.end()


def _maker(receiver: Receiver, draw: Random) -> Maker:
    batch_id = batches.create(receiver, "open", tasks=0)
    return Maker([batches.endpoint_of(receiver, batch_id)], draw)


def test_polite_stops_under_load_keep_what_was_answered_and_give_leases_back(
    receiver: Receiver, say: Say
) -> None:
    """SIGTERM amid deliveries and fetches: exit code 0, in time, no job left in dead hands."""
    draw = dice(7)
    maker, books, longest = _maker(receiver, draw), Books(receiver.database), 0.0
    with Pour(receiver.port, maker.make, draw=draw) as pour:
        for _ in range(STOPS):
            receiver.start()
            time.sleep(draw.uniform(0.5, 1.0))
            began = time.monotonic()
            code = receiver.stop()
            longest = max(longest, time.monotonic() - began)
            held = books.rows("SELECT status, claims, count(*) FROM jobs GROUP BY 1, 2")
            say(f"exit code {code}, jobs (status, claims, how many): {held}")
            assert lost(books, list(pour.answers.acknowledged)) == 0
            assert {row[0] for row in held} <= {"pending", "done"}, "leases were not given back"
            assert {row[1] for row in held} <= {0}, "a claim was counted although we stopped"
            assert code == 0, receiver.log.read_text()[-2000:]
        receiver.start()
        pour.finish()
    assert longest < GRACE < DEADLINE
    _recovers(receiver, pour.answers)
    say(f"{len(pour.answers.acknowledged)} acknowledged; longest stop {longest:.1f} s")


def _recovers(receiver: Receiver, answers: Answers) -> None:
    """All that was acknowledged is there and is worked off, once."""
    books = Books(receiver.database)
    until(lambda: not books.unfinished(), seconds=120)
    assert len(answers.acknowledged) > 50
    assert lost(books, answers.acknowledged) == 0
    assert repeated(books) == 0
    assert half_done(books) == 0


# --- a full disk --------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_is_answered_503_in_time_and_forgotten(
    receiver: Receiver,
) -> None:
    """The kernel refuses the write itself (RLIMIT_FSIZE), in the middle of a commit."""
    maker = _maker(receiver, dice(7))
    receiver.start()
    assert receiver.process is not None
    pid = receiver.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)

    def fill() -> None:
        size = Path(f"{receiver.database}-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 1000, usual[1]))

    def free() -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)

    _refuses_and_recovers(receiver, maker, fill, free)


def test_a_full_disk_is_answered_503_in_time_and_forgotten_when_there_is_space(
    tmp_path: Path,
) -> None:
    """A small file system of its own is filled to the last byte, and emptied again."""
    with sandbox() as sender, _small_disk(tmp_path / "disk") as disk:
        receiver = Receiver(disk, sender.api_url, logs=tmp_path)
        try:
            maker = _maker(receiver, dice(7))
            receiver.start()
            filler = disk / "filler"
            _refuses_and_recovers(receiver, maker, lambda: _fill(filler), filler.unlink)
        finally:
            receiver.end()


def _refuses_and_recovers(
    receiver: Receiver, maker: Maker, fill: Callable[[], None], free: Callable[[], None]
) -> None:
    answers, refused = Answers(), [maker.make(most_bytes=9000) for _ in range(20)]
    _deliver(receiver, answers, [maker.make() for _ in range(20)])
    assert not answers.other
    fill()
    _deliver(receiver, answers, refused)
    assert set(answers.other) == {503}
    until(lambda: receiver.get("/readyz") == 503)
    assert receiver.get("/healthz") == 200
    free()
    until(lambda: receiver.get("/readyz") == 200)
    _deliver(receiver, answers, refused)
    assert set(answers.acknowledged) == answers.sent, "it is still refused although there is space"
    books = Books(receiver.database)
    until(lambda: not books.unfinished(), seconds=120)
    assert lost(books, answers.acknowledged) == repeated(books) == half_done(books) == 0


def _deliver(receiver: Receiver, answers: Answers, deliveries: list[Delivery]) -> None:
    """One try each, answered in time whatever the answer is."""
    with closing(HTTPConnection(HOST, receiver.port, timeout=30)) as connection:
        for delivery in deliveries:
            began = time.monotonic()
            answers.sent.add(delivery.digest)
            answers.note(delivery, *post(connection, delivery))
            assert time.monotonic() - began < ANSWER_SECONDS


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 MiB in memory; skips the test where none can be mounted."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64m", "resultsink-chaos", str(folder)]
    mounted = subprocess.run([mount, *options], capture_output=True, text=True, check=False)  # noqa: S603
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


def _fill(filler: Path) -> None:
    """Write until there is no space left."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MEBIBYTE))
        except OSError:
            return
