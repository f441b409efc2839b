"""The receiver as these tests need it, on one place and one port, and the sender as a process."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from receiver.sandbox import SandboxServer
from receiver.settings import Settings, SourceSettings
from tests import processes
from tests.chaos.books import Books
from tests.chaos.deadlines import until
from tests.chaos.places import Place

HOST = "127.0.0.1"
KEY = "val_chaos"


def dice(seed: int) -> random.Random:
    """A generator that repeats itself for the same seed."""
    return random.Random(seed)  # noqa: S311  chance, not a secret


class Receiver(processes.Receiver):
    """`resultsink serve` on a place, in one of its roles, asking the sender at `api_url`."""

    def __init__(
        self, place: Place, api_url: str, *, logs: Path | None = None, role: str = "all"
    ) -> None:
        self.place = place
        self.role = role
        self.env: dict[str, str] = {}
        self._source = {
            "provider": "valyu",
            "api_key": KEY,
            "base_url": api_url,
            "requests_per_second": "1000",
        }
        settings = {f"sources__valyu__{name}": text for name, text in self._source.items()}
        port = processes.free_port()
        log = (logs or place.folder) / f"receiver-{role}-{port}.log"
        super().__init__(log, {**settings, **place.settings}, port=port)

    @property
    def books(self) -> Books:
        return self.place.books

    def as_settings(self) -> Settings:
        """The same settings in this process, as a command of a person beside it has them."""
        source = SourceSettings.model_validate(self._source)
        return Settings.model_validate(
            {**self.place.settings, "public_url": self.url, "sources": {"valyu": source}}
        )

    def launch(
        self,
        *,
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = processes.COMMAND,
    ) -> "subprocess.Popen[bytes]":
        """Start it, `under` a tracer if need be, and do not wait."""
        role = [] if self.role == "all" else ["--role", self.role]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  our own program
                [*under, *command, "serve", "--port", str(self.port), *role],
                env={**processes.environment(self.settings), **self.env, **(env or {})},
                stdout=log,
                stderr=log,
            )
        return self.process

    def start(self) -> None:
        """Start it, and return once it is ready to store."""
        self.launch()
        self.await_ready()

    def await_ready(self) -> None:
        """Return once it stores."""
        until(self._is_ready)

    def _is_ready(self) -> bool:
        """The same by plain means: an httpx client for each look takes a core from the start."""
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return self.get("/readyz") == 200

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-2000:]

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

    def was_killed(self) -> bool:
        """Whether it has ended by SIGKILL, from within or without."""
        assert self.process is not None
        code = self.process.poll()
        assert code in (None, -signal.SIGKILL), self.said()
        return code is not None


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
