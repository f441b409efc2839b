"""A delivery is synced before its 200 leaves, as the system calls show.

A kill does not test the disk, for the kernel keeps what a dead process has written. So every call
is traced, and at each 200 the database is opened as a loss of power would have left it then.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.chaos import batches
from tests.chaos.disk import Disk
from tests.chaos.places import in_a_file
from tests.chaos.pour import Pour
from tests.chaos.processes import Receiver, dice, sandbox
from tests.chaos.sending import Maker
from tests.chaos.traces import Record, build_shim, read_shim, read_strace, strace_command
from tests.processes import until

ENOUGH = 30
"""Deliveries to be answered while the trace is taken."""

Say = Callable[[str], None]
Start = Callable[[Receiver], None]


def test_shim_sees_sync_before_200(tmp_path: Path, say: Say) -> None:
    """With a C compiler alone: a library between the process and the system."""
    library = build_shim(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler: install gcc, as .ci/run does")
    log, folder = tmp_path / "trace", tmp_path / "served"
    env = {"LD_PRELOAD": str(library), "SHIM_LOG": str(log), "SHIM_FOLDER": str(folder)}

    def start(receiver: Receiver) -> None:
        receiver.launch(env=env)

    disk, answered = _trace(folder, start)
    say(_replay(read_shim(log), disk, answered, tmp_path))


def test_strace_sees_sync_before_200(tmp_path: Path, say: Say) -> None:
    """The kernel's own word for it, where strace may be used."""
    log, folder = tmp_path / "trace", tmp_path / "served"
    command = strace_command(log)
    if command is None:
        pytest.skip("strace is not installed, or may not trace here: install strace")

    def start(receiver: Receiver) -> None:
        receiver.launch(under=command)

    disk, answered = _trace(folder, start)
    until(lambda: "+++ killed by SIGKILL" in _tail(log))
    say(_replay(read_strace(log), disk, answered, tmp_path))


def _trace(folder: Path, start: Start) -> tuple[Disk, int]:
    """Deliver to a traced receiver; returns the disk as it was before, and how many 200s came."""
    folder.mkdir()
    chance = dice(7)
    with sandbox() as sender:
        receiver = Receiver(in_a_file(folder), sender.api_url, logs=folder.parent)
        batch_id = batches.create(receiver, "open", tasks=0)
        maker = Maker([batches.endpoint_of(receiver, batch_id)], chance)
        disk = Disk(folder)
        try:
            start(receiver)
            receiver.await_ready()
            with Pour([receiver.port], maker.make, again=0.0, chance=chance) as pour:
                acknowledged = pour.answers.acknowledged
                until(lambda: len(acknowledged) >= ENOUGH)
                pour.finish()
        finally:
            receiver.end()
    assert not pour.answers.other
    return disk, len(acknowledged)


def _replay(records: Iterable[Record], disk: Disk, answered: int, tmp_path: Path) -> str:
    """Follow the trace; at each 200 look for its delivery on the disk without power."""
    requests: dict[int, bytes] = {}
    seen, version, kept = 0, -1, set[bytes]()
    for record in records:
        disk.apply(record)
        if record.kind == "R":
            begins = record.data.startswith(b"POST /webhooks/")
            before = b"" if begins else requests.get(record.descriptor, b"")
            requests[record.descriptor] = before + record.data
        elif record.kind == "A" and record.data.startswith(b"HTTP/1.1 200 "):
            body = _body(requests.pop(record.descriptor, b""))
            if body is None:
                continue
            if disk.version != version:
                version, kept = disk.version, _after_power_loss(disk, tmp_path)
            assert hashlib.sha256(body).digest() in kept, (
                "a 200 left before its delivery was synced"
            )
            seen += 1
    assert seen == answered, "the trace missed an answer"
    return f"{seen} answers, each after the sync of its delivery; {version} syncs until the last"


def _body(request: bytes) -> bytes | None:
    """The body of a delivery; None for another request, such as ours for /healthz."""
    head, _, body = request.partition(b"\r\n\r\n")
    return body if head.startswith(b"POST /webhooks/") else None


def _after_power_loss(disk: Disk, tmp_path: Path) -> set[bytes]:
    folder = tmp_path / "after"
    try:
        return disk.after_power_loss(folder)
    finally:
        shutil.rmtree(folder)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4000))
        return file.read().decode()
