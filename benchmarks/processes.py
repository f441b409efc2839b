"""Real processes on loopback: started, waited for, and ended by their own process id."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 20.0
STOP_LIMIT = 15.0


class ProcessError(Exception):
    """Could not start a process, or it ended before it should."""


@contextmanager
def listening(
    command: Sequence[str], *, port: int, env: Mapping[str, str], cwd: Path, log: Path
) -> Iterator[int]:
    """Run `command` until the block ends; enter when it listens on `port`. Gives its id."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=out, stderr=out)  # noqa: S603  (our own command)
    try:
        _await_port(process, port, log)
        yield process.pid
        if process.poll() is not None:
            raise ProcessError(f"{command[2:4]} ended while measured: {_tail(log)}")
    finally:
        _stop(process)


def environment(**settings: str) -> dict[str, str]:
    """Give this process's environment with `settings`, and without any resultsink settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESULTSINK")}
    return {**kept, **settings}


def free_port() -> int:
    """Give a port that is free now."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
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


def _await_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ProcessError(f"ended with {process.returncode} at its start: {_tail(log)}")
        try:
            socket.create_connection((HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise ProcessError(f"does not listen after {START_LIMIT:.0f} s: {_tail(log)}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
