"""The receiver as these tests need it, on one place and one port, and the sender as a process."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from receiver.sandbox import SandboxServer
from receiver.settings import Settings, SourceSettings
from tests import processes
from tests.chaos.books import Books
from tests.chaos.places import Place

KEY = "val_chaos"


def dice(seed: int) -> random.Random:
    """A generator that repeats itself for the same seed."""
    return random.Random(seed)  # noqa: S311  chance, not a secret


class Receiver(processes.Receiver):
    """`resultsink serve` on a place, in one of its roles, with the sender's API at `api_url`."""

    def __init__(
        self, place: Place, api_url: str, *, logs: Path | None = None, role: str = "all"
    ) -> None:
        self.place = place
        self.role = role
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
        self.options = () if role == "all" else ("--role", role)

    @property
    def books(self) -> Books:
        return self.place.books

    def as_settings(self) -> Settings:
        """Return its settings for this process, as a user's command beside it has them."""
        source = SourceSettings.model_validate(self._source)
        return Settings.model_validate(
            {**self.place.settings, "public_url": self.url, "sources": {"valyu": source}}
        )

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.process is not None:
            self.kill()

    def was_killed(self) -> bool:
        """Return True once it has ended by SIGKILL, from within or without."""
        assert self.process is not None
        code = self.process.poll()
        assert code in (None, -signal.SIGKILL), self.end_of_log()
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
