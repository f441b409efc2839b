"""Fixtures of the chaos tests, and the table of what they have shown."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos import figures
from tests.chaos.figures import Figures
from tests.chaos.places import POSTGRES, SQLITE, Place, in_a_file, on_a_server
from tests.chaos.postgres import Server
from tests.pgbouncer import PgBouncer

Say = Callable[[str], None]
Note = Callable[[Figures], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Prints a figure although the test passes: what a run has shown belongs into its log."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}")
            sys.stdout.flush()

    return write


@pytest.fixture
def note(say: Say, record_property: Callable[[str, object], None]) -> Note:
    """Says a scenario's figures, and keeps them for the table."""

    def write(shown: Figures) -> None:
        say(shown.line())
        record_property("figures", shown.cells())

    return write


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of all scenarios that ran, failed ones too."""
    rows = [
        value
        for outcome in ("passed", "failed", "xfailed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, value in report.user_properties
        if name == "figures"
    ]
    if rows:
        terminalreporter.section("chaos")
        terminalreporter.write_line(figures.table(sorted(rows)))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A Postgres server that tests may stop, and share one after the other."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def pooler(server: Server, tmp_path: Path) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before that server."""
    server.start()
    # by default it waits for 15 s before it connects again to a server that was gone
    made = PgBouncer(server.url("postgres"), tmp_path, server_login_retry="1")
    made.start()
    yield made
    made.stop()


@pytest.fixture(params=[SQLITE, POSTGRES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database, of each kind."""
    if request.param == SQLITE:
        return in_a_file(tmp_path)
    return on_a_server(request.getfixturevalue("server"), tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """An empty database on SQLite."""
    return in_a_file(tmp_path)
