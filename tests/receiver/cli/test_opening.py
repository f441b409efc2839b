"""A command closes its store when it ends, however it ends."""

import threading

import pytest

from receiver.settings import load
from tests.databases import opened
from tests.receiver.cli.conftest import Run


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("arguments", "code"), [("batch list", 0), ("endpoint add valyu", 0), ("event show 7", 2)]
)
def test_a_command_closes_its_store(run: Run, arguments: str, code: int) -> None:
    with opened(load().database_url):
        pass
    before = set(threading.enumerate())
    assert run(*arguments.split()).code == code
    assert set(threading.enumerate()) <= before
