"""Real databases, opened quickly: the tables are made once, and each test gets a copy."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import storage
from storage.database import Database, open_database
from tests import databases
from tests.databases import Maker


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return f"sqlite:///{tmp_path}/resultsink.db"


@pytest.fixture
def made_url(maker: Maker, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own that somebody has opened before."""
    with maker.made(tmp_path) as url:
        yield url


@pytest.fixture
def store(made_url: str) -> Iterator[storage.Store]:
    """An open store, as the serving process has it."""
    with databases.opened(made_url, serve=True) as opened:
        yield opened


@pytest.fixture
def database(store: storage.Store) -> Database:
    """The database beneath the store."""
    return store.database


@pytest.fixture(scope="module")
def scratch(maker: Maker) -> Iterator[Database]:
    """One database for all examples of a property; each undoes what it wrote."""
    with (
        tempfile.TemporaryDirectory() as folder,
        maker.made(Path(folder)) as url,
        closing(open_database(url)) as database,
    ):
        yield database


@pytest.fixture(scope="module")
def new_database(maker: Maker) -> Iterator[Callable[[Path], Database]]:
    """Give a way to open a fresh copy, in any folder, for tests that need several."""
    made: list[str] = []

    def new(folder: Path) -> Database:
        made.append(maker.make(folder))
        return open_database(made[-1])

    yield new
    for url in made:
        maker.drop(url)
