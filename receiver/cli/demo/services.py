"""The two sides of the demo: a simulated sender in a thread, and the receiver as a process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from receiver.sandbox import SandboxServer
    from receiver.settings import Settings

START_SECONDS = 20.0


@contextmanager
def simulated_sender() -> Iterator[SandboxServer]:
    """Run a sender with the faults of real ones, and strangers beside it.

    Forgeries and copies of every delivery, two tasks that fail, pages of ten, one page answered
    500 and one 429.
    """
    from receiver.sandbox import Fault, Switches, serve_in_thread

    tasks = "GET /deepresearch/batches/*/tasks"
    switches = Switches(
        duration=(1.0, 5.0),
        copies=2,
        forgeries=2,
        failing_tasks=2,
        max_page_size=10,
        faults=(
            Fault(match=tasks, status=500),
            Fault(match=f"{tasks}?*last_key=*", status=429, retry_after=1),
        ),
    )
    with serve_in_thread(switches) as sandbox:
        yield sandbox


@contextmanager
def receiver_process(settings: Settings, folder: Path) -> Iterator[IO[str]]:
    """Run `resultsink serve` until the end of the block; yields its log, a JSON object a line."""
    import subprocess

    source = settings.sources["valyu"]
    assert settings.public_url is not None  # noqa: S101  ours
    assert source.api_key is not None  # noqa: S101  ours
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("RESULTSINK_")},
        "RESULTSINK_DATABASE_URL": settings.database_url,
        "RESULTSINK_PUBLIC_URL": settings.public_url,
        "RESULTSINK_SOURCES__VALYU__API_KEY": source.api_key.get_secret_value(),
        "RESULTSINK_SOURCES__VALYU__BASE_URL": str(source.base_url),
        "RESULTSINK_LOG_FORMAT": "json",
    }
    port = settings.public_url.rpartition(":")[2]
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "receiver", "serve", "--port", port],
        env=environment,
        cwd=folder,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
    )
    assert process.stderr is not None  # noqa: S101  it is a pipe
    try:
        _await_start(process, int(port))
        yield process.stderr
    finally:
        process.terminate()
        process.wait()


def _await_start(process: subprocess.Popen[str], port: int) -> None:
    import socket

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            try:
                probe.connect(("127.0.0.1", port))
                probe.sendall(request)
                if probe.recv(64):
                    return
            except OSError:
                time.sleep(0.05)
    process.terminate()
    last = process.communicate()[1].strip().rpartition("\n")[2]
    raise ReceiverError(f"The receiver did not start: {last.removeprefix('resultsink: ')}")


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
