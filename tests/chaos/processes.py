"""Real processes on loopback: the receiver and the simulated sender, ended by their own ids."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from receiver.sandbox import SandboxServer
from receiver.settings import Settings, SourceSettings

HOST = "127.0.0.1"
KEY = "val_chaos"
READY_LIMIT = 60.0
STOP_LIMIT = 40.0


def until(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    """Wait until the condition holds; fail with `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A free port below those that the system gives to outgoing connections.

    A client that knocks again and again at an ephemeral port on which nobody listens may end up
    connected to itself, and the receiver could not be started again.
    """
    while True:
        port = random.randrange(15_000, 32_000)  # noqa: S311  no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


@dataclass
class Receiver:
    """`resultsink serve` on one file and one port, started as often as it was ended."""

    folder: Path
    api_url: str
    port: int = field(default_factory=free_port)
    concurrency: int = 8
    logs: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "resultsink.db"

    @property
    def log(self) -> Path:
        return (self.logs or self.folder) / "receiver.log"

    def settings(self) -> Settings:
        """The same settings in this process, as a command of a person beside it has them."""
        source = SourceSettings.model_validate(
            {
                "provider": "valyu",
                "api_key": KEY,
                "base_url": self.api_url,
                "requests_per_second": 1000,
                "concurrency": self.concurrency,
            }
        )
        return Settings(
            database_url=f"sqlite:///{self.database}",
            public_url=self.url,
            sources={"valyu": source},
        )

    def start(
        self,
        *,
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = ("-m",),
    ) -> subprocess.Popen[bytes]:
        """Start it, `under` a tracer if need be; returns at once."""
        command = [*under, sys.executable, *options, "receiver", "serve"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603  our own program
                [*command, "--host", HOST, "--port", str(self.port)],
                env={**self._environment(), **(env or {})},
                cwd=self.folder,
                stdout=out,
                stderr=out,
            )
        return self.process

    def _environment(self) -> dict[str, str]:
        source = "RESULTSINK_SOURCES__VALYU__"
        return {
            **os.environ,
            "RESULTSINK_DATABASE_URL": f"sqlite:///{self.database}",
            "RESULTSINK_PUBLIC_URL": self.url,
            f"{source}PROVIDER": "valyu",
            f"{source}API_KEY": KEY,
            f"{source}BASE_URL": self.api_url,
            f"{source}REQUESTS_PER_SECOND": "1000",
            f"{source}CONCURRENCY": str(self.concurrency),
        }

    def start_and_wait(self) -> None:
        """Start it; return when it takes requests."""
        self.start()
        self.await_ready()

    def await_ready(self) -> None:
        until(self._answers, f"the receiver to start; {self.tail()}", seconds=READY_LIMIT)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended at its start: {self.tail()}"
        return self.get("/healthz") == 200

    def get(self, path: str) -> int | None:
        """The status of a GET, None where nobody answers."""
        with closing(HTTPConnection(HOST, self.port, timeout=10)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, HTTPException):
                return None

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> int:
        """Ask it to stop; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT)

    def tail(self) -> str:
        """The end of what it has logged."""
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""


@contextmanager
def sandbox(**switches: object) -> Iterator[SandboxServer]:
    """The simulated sender as a process of its own, ended with the block."""
    given = [f"--set={name}={json.dumps(value)}" for name, value in switches.items()]
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "receiver.sandbox", "--port", "0", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the sandbox did not start"
        with closing(SandboxServer(json.loads(line)["url"])) as running:
            yield running
    finally:
        process.kill()
        process.communicate()
