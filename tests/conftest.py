"""Fixtures that many tests share: a real store on a real database, of each kind in turn."""

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import certifi
import hypothesis
import pytest
import structlog

import storage
from receiver.telemetry import logs
from tests import databases, postgres
from tests.databases import Copies, Files, Kind, Maker

SERVER = pytest.StashKey[postgres.Server]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the run; Postgres is started by the first test that needs it, or for all workers.

    To read what the machine trusts takes each client a tenth of a second, and to colour the source
    of a traceback takes seconds; no test needs either. How long an example of hypothesis takes says
    more of the machine than of the example.
    """
    hypothesis.settings.register_profile("no deadline", deadline=None)
    hypothesis.settings.load_profile("no deadline")
    databases.chosen()
    nobody = str(Path(__file__).with_name("nobody.pem"))
    os.environ["SSL_CERT_FILE"] = nobody
    certifi.where = lambda: nobody
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
    if hasattr(config, "workerinput"):
        return
    server = config.stash[SERVER] = postgres.Server(os.environ.get(postgres.GIVEN))
    config.add_cleanup(server.close)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the server is, or why there is none."""
    server = node.config.stash[SERVER]
    where: dict[str, str] = {"run": server.run}
    if "postgres" in databases.chosen():
        try:
            where["url"] = server.url
        except postgres.NoPostgres as error:
            where["missing"] = str(error)
    node.workerinput["postgres"] = where


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a database on each that is chosen, unless it is marked to need only one."""
    if "database_kind" not in metafunc.fixturenames:
        return
    kinds: list[Any] = list(databases.chosen())
    if metafunc.definition.get_closest_marker("one_database"):
        kinds = kinds[:1]
    for only in databases.KINDS:
        if metafunc.definition.get_closest_marker(only):
            left_out = pytest.mark.skip(reason=f"is about {only}")
            kinds = [only] if only in kinds else [pytest.param(only, marks=left_out)]
    metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="no test that needs a database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, where only the quick tests are wanted, what takes most of the time."""
    if not config.getoption("quick"):
        return
    config.hook.pytest_deselected(items=[item for item in items if _uses_database(item)])
    items[:] = [item for item in items if not _uses_database(item)]


def _uses_database(item: pytest.Item) -> bool:
    return "database_kind" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> Kind:
    """The kind of database that the tests run on: one after the other."""
    given: Kind = request.param
    return given


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """SQLite files with all tables."""
    return Files(tmp_path_factory.mktemp("made-once"))


@pytest.fixture(scope="session")
def copies(pytestconfig: pytest.Config) -> Iterator[Copies]:
    """Databases with all tables on the one server of Postgres that all tests share."""
    databases.require("postgres")
    where = getattr(pytestconfig, "workerinput", {}).get("postgres")
    try:
        if where is None:
            server = pytestconfig.stash[SERVER]
            where = {"run": server.run, "url": server.url}
    except postgres.NoPostgres as error:
        where = {"missing": str(error)}
    if "missing" in where:
        pytest.skip(where["missing"])
    with (
        closing(postgres.Databases(where["url"], where["run"])) as there,
        closing(Copies(there)) as copies,
    ):
        yield copies


@pytest.fixture(scope="session")
def maker(database_kind: Kind, request: pytest.FixtureRequest) -> Maker:
    """A maker of databases, for tests that need several, or share one."""
    found: Maker = request.getfixturevalue({"sqlite": "files", "postgres": "copies"}[database_kind])
    return found


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no file beside the tests, may decide their outcome."""
    for name in list(os.environ):
        if name.startswith("RESULTSINK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _small_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start of the application collects all garbage, and there is much of it beside tests."""
    collect = gc.collect
    monkeypatch.setattr(gc, "collect", lambda generation=0: collect(generation))


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
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait for a SQLite file that another holds, but not for a quarter of a minute."""
    monkeypatch.setattr("storage.database.sqlite.database.COMMAND_BUSY_MILLISECONDS", 1_000)


@pytest.fixture
def database_url(maker: Maker, tmp_path: Path) -> Iterator[str]:
    """A database with all tables and no row; a file lies in `tmp_path`, beside its key."""
    with maker.made(tmp_path) as url:
        yield url


@pytest.fixture
def store(database_url: str) -> Iterator[storage.Store]:
    """An open store, as the serving process has it."""
    with databases.opened(database_url, serve=True) as opened:
        yield opened
