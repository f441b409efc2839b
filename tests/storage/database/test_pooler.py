"""A store behind a real PgBouncer, which lends a connection of its own for each transaction."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection

import storage
from storage import AlreadyServed, CannotOpen, CannotStore
from storage.database.postgres import lease
from storage.database.postgres.names import DEFAULT_SCHEMA, Names
from storage.models import Event
from tests import databases
from tests.databases import KEY, Maker
from tests.pgbouncer import PgBouncer, pooled
from tests.processes import DEADLINE, until
from tests.storage.build import deliver, delivery, rows

SERVED = Names(DEFAULT_SCHEMA).served
pytestmark = pytest.mark.postgres

in_both_modes = pytest.mark.parametrize("pooled_url", ["transaction", "session"], indirect=True)


@pytest.fixture
def pooled_url(made_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with pooled(made_url, tmp_path, mode=getattr(request, "param", "transaction")) as url:
        yield url


@in_both_modes
def test_statements_repeat_on_changing_connections(pooled_url: str) -> None:
    """Prepared statements would be missing there, or be there already."""
    with databases.opened(pooled_url, serve=True) as store, ThreadPoolExecutor(8) as senders:
        keys = [f"event-{number}" for number in range(60)]
        outcomes = list(senders.map(lambda key: deliver(store, delivery(key)), keys))
        assert outcomes == [["accepted"]] * 60
        assert sorted(event.key for event in rows(store.database, Event)) == sorted(keys)


@in_both_modes
def test_limits_hold_and_are_left_to_nobody(pooled_url: str) -> None:
    names = ("statement_timeout", "lock_timeout", "timezone", "datestyle")

    def shown(connection: Connection) -> list[str]:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]

    with databases.opened(pooled_url) as store:
        assert store.database.write(shown) == ["10s", "5s", "UTC", "ISO, MDY"]
        assert store.database.write(shown, urgent=True)[:2] == ["2s", "1s"]
        with psycopg.connect(pooled_url) as other:
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_waiting_for_a_lock_ends(pooled_url: str) -> None:
    with databases.opened(pooled_url) as store, psycopg.connect(pooled_url) as other:
        other.execute("LOCK TABLE meta IN EXCLUSIVE MODE")
        with pytest.raises(CannotStore, match="lock timeout"):
            store.probe()


@in_both_modes
def test_server_is_seen_until_it_ends(pooled_url: str, made_url: str, tmp_path: Path) -> None:
    with databases.opened(made_url) as beside:
        with databases.opened(pooled_url, serve=True):
            assert beside.is_served()
            with pytest.raises(AlreadyServed):
                storage.copy(pooled_url, f"sqlite:///{tmp_path}/target.db")
        assert not beside.is_served()


def test_killed_server_is_seen_until_its_lease_ends(
    pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 60.0)  # as if it were dead
    with databases.opened(pooled_url, serve=True) as dead, databases.opened(pooled_url) as beside:
        assert beside.is_served()
        until(lambda: not beside.is_served())
        with pytest.raises(CannotStore, match="connection was just lost"):
            dead.probe()


def test_copy_from_pooled_database(
    pooled_url: str, maker: Maker, tmp_path: Path, made_url: str
) -> None:
    with databases.opened(pooled_url, serve=True) as store:
        deliver(store, delivery("event"))
    target = maker.bare(tmp_path / "target")
    copied = storage.copy(pooled_url, target, [KEY])
    assert {table.table: table.rows for table in copied.tables}["events"] == 1
    maker.drop(target)


def test_nobody_begins_to_serve_during_a_copy(pooled_url: str, made_url: str) -> None:
    with psycopg.connect(made_url) as copying:
        copying.execute("SELECT pg_advisory_xact_lock(%s, %s)", SERVED)
        with pytest.raises(CannotOpen, match="being copied"):
            storage.open(pooled_url, [KEY], serve=True)


def test_schema_is_made_through_a_pooler(maker: Maker, tmp_path: Path) -> None:
    bare = maker.bare(tmp_path)
    with pooled(bare, tmp_path) as url:
        assert storage.upgrade(url, [KEY]) is None
        assert storage.upgrade(url, [KEY]) == storage.SCHEMA
    maker.drop(bare)


def test_direct_url_brings_hints(pooled_url: str, made_url: str) -> None:
    notified = threading.Event()
    keys = [KEY]
    one = storage.open(pooled_url, keys, serve=True, direct_url=made_url)
    other = storage.open(pooled_url, keys, serve=True, direct_url=made_url)
    try:
        one.listen(notified.set)
        other.hint()
        assert notified.wait(DEADLINE)
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("direct", ["pooler", "other database", "nowhere"])
def test_wrong_direct_url_is_refused(
    pooled_url: str, direct: str, maker: Maker, tmp_path: Path
) -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/nothing"
    with maker.made(tmp_path / "other") as other:
        url = {"pooler": pooled_url, "other database": other}.get(direct, nowhere)
        with pytest.raises(CannotOpen, match=r"RESULTSINK_DATABASE_DIRECT_URL.* lead"):
            storage.open(pooled_url, [KEY], serve=True, direct_url=url)


def test_statement_mode_is_refused_in_a_sentence(made_url: str, tmp_path: Path) -> None:
    with (
        pooled(made_url, tmp_path, mode="statement") as url,
        pytest.raises(CannotOpen, match="set pool_mode = transaction there"),
    ):
        storage.open(url, [KEY])


def test_restart_and_closed_idle_connections_are_not_noticed(made_url: str, tmp_path: Path) -> None:
    """Connections that ended while idle are replaced before anything is asked over them."""
    pooler = PgBouncer(made_url, tmp_path)
    pooler.start()
    try:
        with databases.opened(pooler.url(made_url)) as store:
            store.probe()
            pooler.stop()
            pooler.start()
            store.probe()
    finally:
        pooler.stop()
