"""A receiver as a process, the sandbox in a bad mood, and the command line beside them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from tests import databases
from tests.databases import Maker
from tests.processes import Receiver, environment, serving
from tests.receiver.cli import conftest as commands

KEY = "val_journey_key"

run = commands.run


@pytest.fixture(scope="module")
def running_sender() -> Iterator[SandboxServer]:
    """Doubles and forgeries, failing tasks, small pages, and results at once."""
    switches = Switches(
        duration=(0, 0),
        failing_tasks=2,
        copies=2,
        forgeries=3,
        first_retry_wait=0.3,
        max_page_size=3,
        api_key=KEY,
    )
    with serve_in_thread(switches) as sandbox:
        yield sandbox


@pytest.fixture
def sender(running_sender: SandboxServer) -> SandboxServer:
    """The sandbox as new."""
    running_sender.reset()
    return running_sender


@pytest.fixture(scope="module")
def serving_receiver(
    running_sender: SandboxServer, maker: Maker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    """`resultsink serve`, configured for the sandbox."""
    folder: Path = tmp_path_factory.mktemp("receiver")
    with maker.made(folder) as url:
        settings = {
            **databases.settings(url),
            "sources__valyu__api_key": KEY,
            "sources__valyu__base_url": running_sender.api_url,
            "sources__parallel__api_key": KEY,
            "sources__parallel__base_url": running_sender.url,
            "sources__legacy__provider": "parallel-v0",
            "sources__legacy__api_key": KEY,
            "sources__legacy__base_url": running_sender.url,
        }
        with serving(folder / "receiver.log", settings) as receiver:
            yield receiver


@pytest.fixture
def receiver(serving_receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """The receiver, with its settings in the environment for the commands of this process."""
    for name, value in environment(serving_receiver.settings).items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    return serving_receiver
