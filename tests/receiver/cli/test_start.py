"""Commands load no more than they need, and Ctrl-C while they load ends them without a word."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version

import pytest

import storage
from storage import FetchedBatch
from tests.receiver.cli.conftest import Run

pytestmark = pytest.mark.sqlite

DATABASE = "sqlite:///resultsink.db"
BATCH = "batch_1"

SERVING = {"alembic", "httpx", "psycopg", "starlette", "structlog", "uvicorn"}
STORING = {"cryptography", "pydantic_settings", "sqlalchemy", "sqlmodel"}
HEAVY = {*SERVING, *STORING, "asyncio", "rich"}


@pytest.fixture(autouse=True)
def batch(configure: Callable[..., None]) -> None:
    """A stored batch."""
    configure(database_url=DATABASE)
    with closing(storage.open(DATABASE)) as store:
        store.batches.note("valyu", FetchedBatch(BATCH, "processing", is_terminal=False))


def loaded(*arguments: str, code: int) -> set[str]:
    """The packages that a command has loaded when it ends."""
    command = [sys.executable, "-X", "importtime", "-m", "receiver", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == code, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", ["--help", "--version", "batch --help", "batch show --help"])
def test_help_and_version_load_nothing_heavy(arguments: str) -> None:
    assert loaded(*arguments.split(), code=0) & HEAVY == set()


def test_help_of_the_sandbox_loads_no_server() -> None:
    assert loaded("sandbox", "-h", code=0) & {*SERVING, *STORING, "rich"} == set()


@pytest.mark.parametrize("arguments", ["nonsense", "batch nonsense", "batch wait"])
def test_wrong_use_loads_nothing_heavy(arguments: str) -> None:
    assert loaded(*arguments.split(), code=2) & HEAVY == set()


def test_reading_loads_only_the_storage() -> None:
    found = loaded("batch", "show", BATCH, code=0)
    assert found & SERVING == set()
    assert found >= STORING


def test_version_is_the_package_s(run: Run) -> None:
    ended = run("--version")
    assert (ended.code, ended.out) == (0, f"resultsink {version('resultsink')}\n")


INTERRUPTED = """
import os, signal, sys
from receiver.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)

moment = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
main()
"""


@pytest.mark.parametrize(
    "moment",
    ["receiver.cli", "typer", "pydantic.main", "sqlalchemy.orm.mapper", "storage.store", "rich"],
)
def test_ctrl_c_while_loading_is_quiet(moment: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, moment, "batch", "show", BATCH]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
