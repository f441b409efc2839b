"""Real processes of ours for tests: a receiver that serves, and commands beside it."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

DEADLINE = 150.0
"""Seconds to wait for what must happen: they cost nothing where it does."""

HOST = "127.0.0.1"
COMMAND = (sys.executable, "-m", "receiver")

T = TypeVar("T")


def until(look: Callable[[], T | None], *, seconds: float = DEADLINE, pause: float = 0.01) -> T:
    """Look until something is found, and return it; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(pause)
    return found


def free_port() -> int:
    """Return a port that nobody listens on, below those that outgoing connections are given.

    A client that connects again and again to one of those may end up connected to itself.
    """
    while True:
        port = 15_000 + secrets.randbelow(17_000)  # not `random`, which a test may seed
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of ours; settings are named without their prefix."""
    ours = {f"RESULTSINK_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESULTSINK_")}
    return {**kept, **ours}


def command(
    *arguments: str, settings: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as a program runs it, without a terminal."""
    return subprocess.run(  # noqa: S603  our own program
        [*COMMAND, *arguments],
        env=environment(settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


class Receiver:
    """`resultsink serve` as a process; `start` again after an end, planned or not."""

    def __init__(self, log: Path, settings: Mapping[str, str], *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.settings = {"public_url": self.url, **settings}
        self.options: Sequence[str] = ()
        self.env: dict[str, str] = {}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def launch(
        self,
        *,
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Start it, `under` a tracer if need be, and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  our own program
                [*under, *command, "serve", "--port", str(self.port), *self.options],
                env={**environment(self.settings), **self.env, **(env or {})},
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Start it, and return once it is ready to store."""
        self.launch()
        self.await_ready()

    def await_ready(self) -> None:
        """Return once it is ready to store."""
        until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.end_of_log()
        return self.get("/readyz") == 200

    def get(self, path: str) -> int | None:
        """Return the status of a GET, None where nobody answers."""
        with closing(HTTPConnection(HOST, self.port, timeout=10)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, HTTPException):
                return None

    def end_of_log(self) -> str:
        """Return the last lines of its log."""
        return self.log.read_text()[-2000:]

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; return its exit code (minus the signal's number if killed)."""
        assert self.process is not None
        self.process.send_signal(by)
        code = self.process.wait(DEADLINE)
        self.process = None
        return code

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.stop(signal.SIGKILL)

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command beside it, with the same settings."""
        return command(*arguments, settings=self.settings, stdin=stdin)


@contextmanager
def serving(
    log: Path, settings: Mapping[str, str], *, port: int | None = None
) -> Iterator[Receiver]:
    """Run a receiver until the end of the block."""
    receiver = Receiver(log, settings, port=port)
    try:
        receiver.start()
        yield receiver
    finally:
        if receiver.process is not None:
            receiver.stop()
