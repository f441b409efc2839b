"""Real files, opened quickly: the schema is made once, and each test gets a copy of the file."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import storage
from storage.database import Database


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new database and its key, closed again."""
    folder = tmp_path_factory.mktemp("made-once")
    storage.open(f"sqlite:///{folder}/resultsink.db").close()
    return folder


@pytest.fixture
def made_url(made_once: Path, tmp_path: Path) -> str:
    """A database of this test's own that somebody has opened before."""
    for file in made_once.iterdir():
        shutil.copy(file, tmp_path)
    return f"sqlite:///{tmp_path}/resultsink.db"


@pytest.fixture
def store(made_url: str) -> Iterator[storage.Store]:
    """An open store, as the serving process has it."""
    opened = storage.open(made_url, serve=True)
    yield opened
    opened.close()


@pytest.fixture
def database(store: storage.Store) -> Database:
    """The database beneath the store."""
    return store.database


@pytest.fixture(scope="module")
def scratch(made_once: Path) -> Iterator[Database]:
    """One database for all examples of a property; each undoes what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(made_once / "resultsink.db", folder)
        database = Database(f"sqlite:///{folder}/resultsink.db")
        yield database
        database.close()


@pytest.fixture(scope="module")
def new_database(made_once: Path) -> Callable[[Path], Database]:
    """Give a way to open a fresh copy in any folder, for tests that need several."""

    def copy(folder: Path) -> Database:
        shutil.copy(made_once / "resultsink.db", folder)
        return Database(f"sqlite:///{folder}/resultsink.db")

    return copy
