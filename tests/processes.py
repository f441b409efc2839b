"""Real processes of ours for tests: a receiver that serves, and commands beside it."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

DEADLINE = 30.0
COMMAND = (sys.executable, "-m", "receiver")


def until(condition: Callable[[], Any], *, seconds: float = DEADLINE) -> Any:
    """The condition's value once it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return value


def free_port() -> int:
    """A port that nobody listens on, below those that outgoing connections are given.

    A client that knocks again and again at such a one may end up connected to itself.
    """
    while True:
        port = random.randrange(15_000, 32_000)  # noqa: S311  no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours; settings are named without their prefix."""
    ours = {f"RESULTSINK_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESULTSINK_")}
    return {**kept, **ours}


def command(
    *arguments: str, settings: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """One command, run to its end, as a user runs it in a terminal that is none."""
    return subprocess.run(  # noqa: S603  our own program
        [*COMMAND, *arguments],
        env=environment(settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Receiver:
    """`resultsink serve` as a process; `start` again after an end, planned or not."""

    def __init__(self, log: Path, settings: Mapping[str, str], *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"public_url": self.url, **settings}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it is ready to store."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  our own program
                [*COMMAND, "serve", "--port", str(self.port)],
                env=environment(self.settings),
                stdout=log,
                stderr=log,
            )
        until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit code (minus the signal's number if killed)."""
        assert self.process is not None
        self.process.send_signal(by)
        code = self.process.wait(DEADLINE)
        self.process = None
        return code

    def kill(self) -> None:
        """End it without a word."""
        self.stop(signal.SIGKILL)

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command beside it, with the same settings."""
        return command(*arguments, settings=self.settings, stdin=stdin)


@contextmanager
def serving(
    log: Path, settings: Mapping[str, str], *, port: int | None = None
) -> Iterator[Receiver]:
    """A receiver that serves until the end of the block."""
    receiver = Receiver(log, settings, port=port)
    receiver.start()
    try:
        yield receiver
    finally:
        if receiver.process is not None:
            receiver.stop()
