"""Every test runs over every provider: a sandbox that plays them, and a receiver with them all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from tests.conformance.cases import CASES, Case
from tests.conformance.sink import Sink, running
from tests.databases import Maker
from tests.receiver.cli import conftest as commands

run = commands.run


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """One provider after the other."""
    return CASES[request.param]


@pytest.fixture(scope="package")
def running_sandbox() -> Iterator[SandboxServer]:
    """One sandbox for all tests; its runs end at once."""
    with serve_in_thread(Switches(duration=(0, 0), first_retry_wait=0.3)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: SandboxServer) -> SandboxServer:
    """The sandbox as new."""
    running_sandbox.reset()
    return running_sandbox


@pytest.fixture
def sink(database_url: str, tmp_path: Path, sandbox: SandboxServer) -> Iterator[Sink]:
    """A receiver without anything in it."""
    with running(tmp_path, sandbox, database_url=database_url) as sink:
        yield sink


@pytest.fixture(scope="package")
def folder_of_long_lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a receiver that many tests share."""
    return tmp_path_factory.mktemp("long-lived")


@pytest.fixture(scope="package")
def running_long_lived(
    maker: Maker, folder_of_long_lived: Path, running_sandbox: SandboxServer
) -> Iterator[Sink]:
    """One receiver for all tests that look at nothing but their own batch."""
    with (
        maker.made(folder_of_long_lived) as url,
        running(folder_of_long_lived, running_sandbox, database_url=url) as sink,
    ):
        yield sink


@pytest.fixture
def long_lived(
    running_long_lived: Sink,
    folder_of_long_lived: Path,
    sandbox: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Sink:
    """The shared receiver, with its settings for commands of this process; the sandbox as new."""
    del sandbox
    monkeypatch.setenv("RESULTSINK_CONFIG", f"{folder_of_long_lived}/resultsink.toml")
    return running_long_lived
