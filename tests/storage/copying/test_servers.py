"""A copy that meets a server: what its user may not do, its encoding, its timeouts, its end."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlmodel import SQLModel

import storage
from storage import CannotOpen
from storage.copying.postgres import PostgresSide
from tests import databases
from tests.databases import KEY, Copies

pytestmark = pytest.mark.skipif("postgres" not in databases.chosen(), reason="is not chosen")

META = [SQLModel.metadata.tables["meta"]]
TABLES = "SELECT 1 FROM pg_tables WHERE schemaname IN ('public', 'resultsink')"


@pytest.fixture
def server(copies: Copies, tmp_path: Path) -> Iterator[str]:
    """A database with all tables."""
    with copies.made(tmp_path) as url:
        yield url


def said(source: str, target: str) -> str:
    """The sentences with which a copy is refused."""
    with pytest.raises(CannotOpen) as refusal:
        storage.copy(source, target, [KEY])
    return str(refusal.value)


def test_missing_read_right_is_reported(server: str, tmp_path: Path) -> None:
    restricted = f"{server}&options=-c%20role%3Dpg_monitor"
    sentences = said(restricted, f"sqlite:///{tmp_path}/target.db")
    assert "permission denied for schema resultsink" in sentences
    assert "\n" not in sentences


@pytest.mark.parametrize("looks", ["revision", "claim"])
def test_connection_lost_before_copy_is_reported(server: str, looks: str) -> None:
    with closing(PostgresSide(server, storage.DEFAULT_SCHEMA)) as side:
        with psycopg.connect(server) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> pg_backend_pid()",
                [make_url(server).database],
            )
        with pytest.raises(CannotOpen, match=r"cannot be opened: .*\. Look at its URL"):
            getattr(side, looks)()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_server_not_in_utf8_is_refused(server: str, tmp_path: Path, encoding: str) -> None:
    other = f"{make_url(server).database}_{encoding.lower()}"
    url = make_url(server).set(database=other).render_as_string(hide_password=False)
    with closing(psycopg.connect(server, autocommit=True)) as admin:
        admin.execute(
            f"CREATE DATABASE \"{other}\" TEMPLATE template0 ENCODING '{encoding}'"
            " LOCALE 'C' STRATEGY file_copy".encode()
        )
        try:
            for source, target in ((server, url), (url, f"sqlite:///{tmp_path}/target.db")):
                assert f"has the encoding {encoding}: make one with UTF8" in said(source, target)
            with psycopg.connect(url) as there:
                assert not there.execute(TABLES).fetchall()
        finally:
            admin.execute(f'DROP DATABASE "{other}" WITH (FORCE)'.encode())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_role_timeouts_end_no_copy(server: str, limit: str) -> None:
    with psycopg.connect(server) as other:
        if other.execute("SELECT current_setting(%s, true)", [limit]).fetchone() == (None,):
            pytest.skip(f"this server knows no {limit}")
    limited = f"{server}&options=-c%20{limit}%3D500"
    with closing(PostgresSide(limited, storage.DEFAULT_SCHEMA)) as side:
        assert side.claim()
        with side.transaction(META, fills=False):
            side.connection.exec_driver_sql("SELECT pg_sleep(1)")
