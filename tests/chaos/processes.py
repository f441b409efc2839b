"""The receiver as these tests need it, on one file and one port, and the sender as a process."""

import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from receiver.sandbox import SandboxServer
from receiver.settings import Settings, SourceSettings
from tests import processes

HOST = "127.0.0.1"
KEY = "val_chaos"
READY_LIMIT = 60.0


def dice(seed: int) -> random.Random:
    """A generator that repeats itself for the same seed."""
    return random.Random(seed)  # noqa: S311  chance, not a secret


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


class Receiver(processes.Receiver):
    """`resultsink serve` on `folder`/resultsink.db, asking the sender at `api_url`."""

    def __init__(self, folder: Path, api_url: str, *, logs: Path | None = None) -> None:
        self.database = folder / "resultsink.db"
        self._source = {
            "provider": "valyu",
            "api_key": KEY,
            "base_url": api_url,
            "requests_per_second": "1000",
        }
        settings = {f"sources__valyu__{name}": text for name, text in self._source.items()}
        settings["database_url"] = f"sqlite:///{self.database}"
        super().__init__((logs or folder) / "receiver.log", settings, port=free_port())

    def as_settings(self) -> Settings:
        """The same settings in this process, as a command of a person beside it has them."""
        source = SourceSettings.model_validate(self._source)
        url = f"sqlite:///{self.database}"
        return Settings(database_url=url, public_url=self.url, sources={"valyu": source})

    def launch(
        self, *, under: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start it, `under` a tracer if need be, and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  our own program
                [*under, *processes.COMMAND, "serve", "--port", str(self.port)],
                env={**processes.environment(self.settings), **(env or {})},
                stdout=log,
                stderr=log,
            )
        return self.process

    def await_ready(self) -> None:
        """Return once it stores."""
        processes.until(self._is_ready, seconds=READY_LIMIT)

    def _is_ready(self) -> bool:
        """The same by plain means: an httpx client for each look takes a core from the start."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return self.get("/readyz") == 200

    def get(self, path: str) -> int | None:
        """The status of a GET, None where nobody answers."""
        with closing(HTTPConnection(HOST, self.port, timeout=10)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, HTTPException):
                return None

    def end(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None:
            self.kill()


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
