"""A full disk refuses in time, and is forgotten once it is not."""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.conftest import Note
from tests.chaos.figures import Figures
from tests.chaos.places import Place, in_a_file, on_a_server
from tests.chaos.postgres import Server
from tests.chaos.pour import Pour
from tests.chaos.processes import dice, sandbox
from tests.chaos.world import World, in_time
from tests.processes import until

LONG = "CHAOS_KILLS" in os.environ
ROUNDS = 5 if LONG else 1
FULL_SECONDS = 5.0 if LONG else 1.0
TASKS = 12
MEBIBYTE = 1024 * 1024

Do = Callable[[], object]


def test_file_size_limit_is_503_then_recovers(file: Place, note: Note) -> None:
    """The kernel refuses the write itself (RLIMIT_FSIZE), in the middle of a commit."""
    with _world(file) as world:
        usual = resource.getrlimit(resource.RLIMIT_FSIZE)

        def limit(size: int) -> None:
            process = world.receivers[0].process
            assert process is not None
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, usual[1]))

        def fill() -> None:
            limit(Path(f"{file.database}-wal").stat().st_size + 1000)

        shown = _fill_and_free(world, fill, lambda: limit(usual[0]), "a file that may not grow")
        note(shown)


def test_full_disk_is_503_then_recovers(tmp_path: Path, note: Note) -> None:
    """A small file system of its own is filled to the last byte, and emptied again."""
    with _small_disk(64) as disk, _world(in_a_file(disk), logs=tmp_path) as world:
        filler = disk / "filler"
        shown = _fill_and_free(world, lambda: _fill(filler), filler.unlink, "a full disk")
        note(shown)


def test_full_server_disk_is_503_then_recovers(tmp_path: Path, note: Note) -> None:
    """Postgres itself finds no space: for rows, for its log, whatever it writes first."""
    with _small_disk(400) as disk, closing(Server(disk)) as server:
        place, filler = on_a_server(server, tmp_path), disk / "filler"

        def free() -> None:
            filler.unlink()
            server.start()  # whoever keeps a server starts it again where it gave up

        with _world(place) as world:
            shown = _fill_and_free(world, lambda: _fill(filler), free, "a full disk")
            note(shown)


@contextmanager
def _world(place: Place, *, logs: Path | None = None) -> Iterator[World]:
    """Everything runs, a batch is being brought in."""
    with (
        sandbox(max_page_size=5, duration=[0.0, 1.0], webhook=False) as sender,
        World(place, sender, dice(7), logs=logs) as world,
    ):
        world.open_batches(2)
        world.start()
        yield world


def _fill_and_free(world: World, fill: Do, free: Do, scenario: str) -> Figures:
    """Fill the disk under load and free it, so many times; the promises hold."""
    made = [world.batch(f"batch {number}", tasks=TASKS) for number in range(ROUNDS)]
    ended = [world.end_of(batch_id) for batch_id in made]
    with world.pour() as pour:
        for announcement in ended:
            world.more(pour, 30)
            fill()
            world.announce(announcement)
            _refused(world, pour)
            free()
            world.fault_ended()
            until(lambda: world.receivers[0].get("/readyz") == 200)
        recovered = world.settle(pour)
    shown = world.figures(scenario, pour.answers, faults=ROUNDS, recovered=recovered)
    world.check(shown, pour.answers)
    assert pour.answers.cut == 0
    assert in_time(pour.answers), f"an answer took {pour.answers.slowest:.2f} s"
    return shown


def _refused(world: World, pour: Pour) -> None:
    """For some seconds nothing can be stored: that is said, and we are alive."""
    began, refused = time.monotonic(), pour.answers.refused
    until(lambda: pour.answers.refused > refused + 10)
    if not world.place.is_shared:  # a row that is there is written anew without more space
        until(lambda: world.receivers[0].get("/readyz") == 503)
    assert world.receivers[0].get("/healthz") == 200
    time.sleep(max(0.0, FULL_SECONDS - (time.monotonic() - began)))


@contextmanager
def _small_disk(size: int) -> Iterator[Path]:
    """A file system of so many MiB in memory; skips the test where none can be mounted."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="chaos-disk-"))
    options = ["-t", "tmpfs", "-o", f"size={size}m", "resultsink-chaos", str(folder)]
    mounted = subprocess.run([mount, *options], capture_output=True, text=True, check=False)  # noqa: S603
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607
        folder.rmdir()


def _fill(filler: Path) -> None:
    """Write until there is no space left."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(MEBIBYTE))
