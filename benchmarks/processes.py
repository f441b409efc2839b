"""Real processes on loopback: started, waited for, and ended by their own process id."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 60.0
STOP_LIMIT = 15.0


class ProcessError(Exception):
    """Could not start a process, or it ended before it should."""


class Process:
    """A running process with its log. `options` are those of subprocess.Popen."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        **options: Any,
    ) -> None:
        self._name = " ".join((Path(command[0]).name, *command[1:5]))
        self._log = log
        with log.open("ab") as out:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  (ours)
                command, env=env, cwd=cwd, stdout=out, stderr=out, **options
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise with the end of the log if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise ProcessError(f"`{self._name}` ended with {code}: {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def await_port(self, port: int, *, every: float = 0.05) -> None:
        """Return when it listens."""
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            self.check()
            try:
                socket.create_connection((HOST, port), timeout=1.0).close()
            except OSError:
                time.sleep(every)
            else:
                return
        raise ProcessError(f"`{self._name}` does not listen: {self.tail()}")

    def stop(self) -> None:
        """End it with SIGTERM, or with SIGKILL where that does not help."""
        self._end(signal.SIGTERM)

    def interrupt(self) -> None:
        """End it with SIGINT, or with SIGKILL where that does not help."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def _end(self, by: signal.Signals) -> None:
        self._process.send_signal(by)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def listening(
    command: Sequence[str], *, port: int, env: Mapping[str, str], cwd: Path, log: Path
) -> Iterator[Process]:
    """Run `command` until the block ends; enter when it listens on `port`."""
    process = Process(command, env=env, cwd=cwd, log=log)
    try:
        process.await_port(port)
        yield process
        process.check()
    finally:
        process.stop()


def environment(**settings: str) -> dict[str, str]:
    """Give this process's environment with `settings`, and without any resultsink settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESULTSINK")}
    return {**kept, **settings}


def free_port() -> int:
    """Give a port that is free now, below those that the system gives to outgoing connections.

    A client that knocks at an ephemeral port on which nobody listens yet may end up connected to
    itself.
    """
    while True:
        port = random.randrange(15_000, 32_000)  # noqa: S311  no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


@contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a port on which nothing listens: connections are refused as long as the block runs."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield held.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    """Give the processor time that all threads of a process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int, *, peak: bool = False) -> float:
    """Give the resident memory of a process in megabytes: now, or the most it ever had."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith(wanted):
            return int(text.split()[1]) / 1024
    raise ProcessError(f"{wanted} is not told of process {pid}")
