"""Connections to a server that takes no writes any more, or is gone: left, and made anew."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection

from storage import CannotStore
from storage.database.postgres import presence, spent
from storage.database.postgres.names import DEFAULT_SCHEMA, Names
from tests import databases
from tests.processes import until

SERVED = Names(DEFAULT_SCHEMA).served
pytestmark = pytest.mark.postgres

HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) = ({}, {})"
OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Primary:
    """A server that takes writes, or does not, over the connections that are made meanwhile."""

    def __init__(self, url: str) -> None:
        self.url = url

    def demote(self) -> None:
        self._execute("SET default_transaction_read_only = on")

    def promote(self) -> None:
        self._execute("RESET default_transaction_read_only")

    def _execute(self, change: str) -> None:
        with psycopg.connect(self.url, options="-c default_transaction_read_only=off") as admin:
            admin.execute(f'ALTER DATABASE "{admin.info.dbname}" {change}'.encode())


@pytest.fixture
def primary(made_url: str) -> Iterator[Primary]:
    """One that takes no writes, at first."""
    found = Primary(made_url)
    found.demote()
    yield found
    found.promote()


def is_read_only(connection: Connection) -> bool:
    shown = "SHOW default_transaction_read_only"
    return bool(connection.exec_driver_sql(shown).scalar_one() == "on")


def test_write_goes_to_the_new_primary(primary: Primary) -> None:
    with databases.opened(primary.url) as store:
        with pytest.raises(CannotStore, match="read-only"):
            store.sources.probe_now()
        assert store.events.list_newest() == []  # over a connection that takes no writes
        primary.promote()
        store.sources.probe_now()


def test_reader_leaves_what_was_the_primary(
    primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `batch wait` would look at a server for ever to which nothing new comes."""
    monkeypatch.setattr(spent, "READ_ONLY_SECONDS", 0.0)
    with databases.opened(primary.url) as store:
        primary.promote()
        with store.database.read() as connection:
            assert not is_read_only(connection)


def test_reader_stays_where_there_is_no_other(primary: Primary) -> None:
    with databases.opened(primary.url) as store:
        assert store.events.list_newest() == []


def test_presence_moves_to_the_new_primary(
    primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "CLOCK_SECONDS", 0.1)
    with (
        databases.opened(primary.url, serve=True),
        psycopg.connect(primary.url, autocommit=True) as other,
    ):
        holder = HOLDER.format(*SERVED)
        (before,) = other.execute(holder.encode()).fetchone() or (0,)
        until(lambda: other.execute(holder.encode()).fetchone() not in (None, (before,)))


def test_idle_connection_that_was_ended_is_replaced(made_url: str) -> None:
    with databases.opened(made_url) as store:
        store.probe()
        with psycopg.connect(made_url, autocommit=True) as other:
            other.execute(OTHERS)
        store.probe()
