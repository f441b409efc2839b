"""Fixtures that many tests share: a real store on a real file, and its settings."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import storage
from receiver import logs


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no file beside the tests, may decide their outcome."""
    for name in list(os.environ):
        if name.startswith("RESULTSINK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Logging belongs to the process: what a test configures is undone.

    A logger of a module keeps what it was configured with when it was first used.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logs.hide([])
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        if name.startswith("receiver.") and hasattr(module, "log"):
            vars(module.log).pop("bind", None)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A database that does not exist yet."""
    return f"sqlite:///{tmp_path}/resultsink.db"


@pytest.fixture
def store(database_url: str) -> Iterator[storage.Store]:
    """An open store on a new file, as the serving process has it."""
    opened = storage.open(database_url, serve=True)
    yield opened
    opened.close()
