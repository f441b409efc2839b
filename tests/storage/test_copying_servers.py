"""A copy that meets a server: what its user may not do, its encoding, its timeouts, its end."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

import storage
from storage import CannotOpen
from storage.copying.postgres import PostgresSide
from tests import databases
from tests.databases import KEY, Copies

pytestmark = pytest.mark.skipif("postgres" not in databases.chosen(), reason="is not chosen")


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


def test_a_user_who_may_not_look_is_told_so(server: str, tmp_path: Path) -> None:
    restricted = f"{server}&options=-c%20role%3Dpg_monitor"
    sentences = said(restricted, f"sqlite:///{tmp_path}/target.db")
    assert "permission denied for table alembic_version. Look at" in sentences
    assert "\n" not in sentences


@pytest.mark.parametrize("looks", ["revision", "claim"])
def test_a_connection_that_is_lost_before_the_copy_begins_is_said(server: str, looks: str) -> None:
    with closing(PostgresSide(server)) as side:
        with psycopg.connect(server) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> pg_backend_pid()",
                [make_url(server).database],
            )
        with pytest.raises(CannotOpen, match=r"cannot be opened: .*\. Look at its URL"):
            getattr(side, looks)()
