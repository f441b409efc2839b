"""The command line as a process would run it, in this one: real exit codes, real streams."""

import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from receiver.cli import main
from storage import Store
from tests.databases import Kind, settings

Run = Callable[..., "Ended"]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence on standard error, without the program's name."""
        assert self.out == ""
        assert self.told.startswith("resultsink: "), self.err
        assert self.told.count("\n") == 1, self.err
        assert self.told.endswith(".\n"), self.err
        return self.told.removeprefix("resultsink: ").removesuffix("\n")

    @property
    def told(self) -> str:
        """Standard error after the line that says how the tasks were read."""
        first, _, rest = self.err.partition("\n")
        return rest if re.fullmatch(r"Read \d+ tasks? from .*\.", first) else self.err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; the settings are in the environment."""

    def run(*arguments: str, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["resultsink", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        code: Any = ended.value.code
        return Ended(code or 0, written.out, written.err)

    return run


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set settings, named without their prefix; None takes one away."""

    def configure(**settings: str | None) -> None:
        for name, value in settings.items():
            variable = f"RESULTSINK_{name.upper()}"
            if value is None:
                monkeypatch.delenv(variable, raising=False)
            else:
                monkeypatch.setenv(variable, value)

    return configure


@pytest.fixture
def store(store: Store, database_url: str, configure: Callable[..., None]) -> Store:
    """An open store, and settings under which commands have it too."""
    configure(**settings(database_url))
    return store


@pytest.fixture
def configured(
    database_kind: Kind, request: pytest.FixtureRequest, configure: Callable[..., None]
) -> Callable[..., None]:
    """Settings under which everything but the sender is there; a file is made when it is needed."""
    if database_kind == "postgres":
        configure(**settings(request.getfixturevalue("database_url")))
    configure(
        public_url="http://127.0.0.1:9",
        sources__valyu__api_key="val_test",
        sources__valyu__base_url="http://127.0.0.1:1/v1",
    )
    return configure
