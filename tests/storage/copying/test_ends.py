"""A copy of a server that does not get to its end: it ends all the same, and lets everything go."""

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table
from sqlalchemy.engine import make_url
from sqlmodel import SQLModel

import storage
from storage import CopyFailed
from storage.copying.postgres import PostgresSide
from tests import databases
from tests.databases import KEY, Copies, Files, Kind

pytestmark = pytest.mark.skipif("postgres" not in databases.chosen(), reason="is not chosen")

ENOUGH_SECONDS = 60
META = [SQLModel.metadata.tables["meta"]]

MANY = (
    "INSERT INTO runs (source, run_id, status, input) SELECT 'v', 'r' || lpad(n::text, 3, '0'),"
    " 'queued', to_json(repeat('x', 40000)) FROM generate_series(1, 200) AS n"
)
"""Rows that no buffer between the two ends takes."""

REFUSES = (
    "CREATE TRIGGER refuses BEFORE INSERT ON runs WHEN NEW.run_id = 'r150'"
    " BEGIN SELECT RAISE(ABORT, 'no more'); END"
)


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A wait that would never end fails here, before the whole run does."""

    def fails(*_: object) -> None:
        raise AssertionError("It has not ended.")

    before = signal.signal(signal.SIGALRM, fails)
    signal.setitimer(signal.ITIMER_REAL, ENOUGH_SECONDS, 1)  # again for all that ends it
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def source(copies: Copies, tmp_path: Path) -> Iterator[str]:
    with copies.made(tmp_path) as url:
        with psycopg.connect(url) as server:
            server.execute(MANY)
        yield url


@pytest.fixture
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Kind], str]]:
    """Makes targets without tables, which go with the test."""
    made: list[tuple[Files | Copies, str]] = []

    def bare(kind: Kind) -> str:
        maker: Files | Copies = request.getfixturevalue(
            {"sqlite": "files", "postgres": "copies"}[kind]
        )
        made.append((maker, maker.bare(tmp_path)))
        return made[-1][1]

    yield bare
    for maker, url in made:
        maker.drop(url)


def at_row(number: int, what: str, does: Callable[[], None]) -> storage.Progressed:
    """Do this in the middle of a table, with all that is open then."""
    shown: list[int] = []

    def progressed(now: str, done: int, total: int) -> None:
        if now == what:
            shown.append(done)
            if done == shown[0] + number:
                does()

    return progressed


def interrupt() -> None:
    raise KeyboardInterrupt


def is_free(url: str) -> bool:
    """Return True where it can be served and written to."""
    with databases.opened(url, serve=True) as store:
        return bool(store.tokens.create("ci", ["read"], source=None))


@pytest.mark.parametrize(
    ("kind", "what"),
    [("sqlite", "copying runs"), ("postgres", "copying runs"), ("postgres", "verifying runs")],
)
def test_interrupted_copy_releases_the_source(
    source: str, bare: Callable[[Kind], str], kind: Kind, what: str
) -> None:
    target = bare(kind)
    with pytest.raises(KeyboardInterrupt):
        storage.copy(source, target, [KEY], progressed=at_row(100, what, interrupt))
    assert is_free(source)


def test_lost_target_connection_releases_the_source(
    source: str, bare: Callable[[Kind], str]
) -> None:
    target = bare("postgres")

    def ends() -> None:
        with psycopg.connect(source) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = %s",
                [make_url(target).database],
            )

    with pytest.raises(CopyFailed, match=f"ended at .*{make_url(target).database}, and nothing"):
        storage.copy(source, target, [KEY], progressed=at_row(100, "copying runs", ends))
    assert is_free(source)


def test_full_target_file_releases_the_source(source: str, bare: Callable[[Kind], str]) -> None:
    target = bare("sqlite")
    storage.open(target, [KEY]).close()
    with closing(sqlite3.connect(target.removeprefix("sqlite:///"))) as file:
        file.execute(REFUSES)
    with pytest.raises(CopyFailed, match="no more"):
        storage.copy(source, target, [KEY])
    assert is_free(source)


def test_abandoned_rows_are_not_waited_for(source: str) -> None:
    with psycopg.connect(source) as server:
        server.execute("CREATE VIEW endless AS SELECT generate_series(1, 1e15::bigint) AS id")
    endless = Table("endless", MetaData(), Column("id", BigInteger))
    with closing(PostgresSide(source, storage.DEFAULT_SCHEMA)) as side:
        assert side.claim()
        with side.transaction(META, fills=False), closing(side.rows(endless)) as rows:
            assert next(rows) == (1,)
        assert side.revision() == storage.SCHEMA
