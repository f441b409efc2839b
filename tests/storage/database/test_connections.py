"""The connections that a store has to Postgres: the intake's, those for work, and the one kept."""

import os
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

import storage
from storage import CannotOpen, CannotStore, Store
from storage.database.postgres import database as postgres
from storage.database.postgres import engine, schema
from storage.database.postgres.names import DEFAULT_SCHEMA, Names
from storage.models import Event
from tests import behind, databases
from tests.databases import KEY
from tests.processes import DEADLINE
from tests.storage.build import deliver, delivery, rows

pytestmark = pytest.mark.postgres

SERVED = Names(DEFAULT_SCHEMA).served


@contextmanager
def no_connection_for_work(store: Store) -> Iterator[None]:
    """Work that does not go on holds each connection that there may be for it."""
    database: Any = store.database
    size = database._work.engine.pool.size()
    all_held, go_on = threading.Barrier(size + 1), threading.Event()

    def hang(_connection: object) -> None:
        all_held.wait(DEADLINE)
        go_on.wait(DEADLINE)

    with ThreadPoolExecutor(size) as pool:
        try:
            for _ in range(size):
                pool.submit(store.database.write, hang)
            all_held.wait(DEADLINE)
            yield
        finally:
            go_on.set()


def test_delivery_recorded_while_work_pool_exhausted(store: Store) -> None:
    with no_connection_for_work(store):
        assert deliver(store, delivery("event")) == ["accepted"]
    assert [row.key for row in rows(store.database, Event)] == ["event"]


def test_endpoint_found_while_work_pool_exhausted(store: Store) -> None:
    endpoint_id = store.endpoints.add("valyu", "batch", resource="batch-1")
    store.endpoints.set_secret(endpoint_id, "secret")
    with no_connection_for_work(store):
        assert store.endpoints.find(endpoint_id, urgent=True) is not None
        assert store.endpoints.find_by_resource("valyu", "batch-1", urgent=True) is not None
        assert store.endpoints.revision() > 0


def test_readiness_is_that_of_the_intake(store: Store) -> None:
    with no_connection_for_work(store):
        store.probe()


HOLDERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
WHERE locktype = 'advisory' AND (classid, objid) = (%s, %s)
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def keep_writing(store: Store) -> None:
    """Until that is refused: another thread notices what was lost, and not at once."""
    deadline = time.monotonic() + DEADLINE / 3
    while time.monotonic() < deadline:
        store.sources.probe_now()


def test_exclusively_locked_database_takes_no_writes(store: Store, made_url: str) -> None:
    """As `db copy` has it: what came in behind its back would be lost."""
    with psycopg.connect(made_url, autocommit=True) as other:
        while other.execute("SELECT pg_try_advisory_lock(%s, %s)", SERVED).fetchone() != (True,):
            other.execute(HOLDERS, SERVED)
        with pytest.raises(CannotStore, match="being copied"):
            keep_writing(store)
        with pytest.raises(CannotStore, match="being copied"):
            deliver(store, delivery())
    assert rows(store.database, Event) == []


def test_session_sets_timeouts_and_synchronous_commit(
    made_url: str,
) -> None:
    names = (
        "synchronous_commit",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "timezone",
        "datestyle",
    )

    def shown(connection: Connection) -> list[str]:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]

    with psycopg.connect(made_url, autocommit=True) as other:
        change = f"ALTER DATABASE {other.info.dbname}".encode()
        other.execute(change + b" SET synchronous_commit = off")
        other.execute(change + b" SET datestyle = 'SQL, DMY'")
        try:
            with databases.opened(made_url) as store:
                found = store.database.write(shown)
        finally:
            other.execute(change + b" RESET ALL")
    assert found == ["on", "10s", "5s", "5s", "UTC", "ISO, DMY"]


@pytest.mark.parametrize("module", [postgres, schema])
def test_slow_process_may_open_and_upgrade(
    made_url: str, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    """On a busy machine it is idle between two statements for longer than the work may be."""
    found: list[str] = []

    def look(connection: Connection, _name: str) -> None:
        query = "SHOW idle_in_transaction_session_timeout"
        found.append(connection.exec_driver_sql(query).scalar_one())

    monkeypatch.setattr(module, "check_encoding", look)
    storage.upgrade(made_url, [KEY])
    assert found == ["1min"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_not_in_utf8_is_refused(made_url: str, encoding: str) -> None:
    name = f"{make_url(made_url).database}_{encoding.lower()}"
    create = f"CREATE DATABASE {name} ENCODING {encoding} LOCALE 'C' TEMPLATE template0"
    url = make_url(made_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(made_url, autocommit=True) as admin:
        admin.execute(create.encode())
        try:
            for use in (storage.open, storage.upgrade):
                with pytest.raises(CannotOpen, match=f"encoding {encoding}: make one with UTF8"):
                    use(url, [KEY])
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_missing_right_is_a_temporary_fault(made_url: str, store: Store) -> None:
    with psycopg.connect(made_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE onlooker")
        try:
            admin.execute("GRANT USAGE ON SCHEMA resultsink TO onlooker")
            admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA resultsink TO onlooker")
            url = make_url(made_url).update_query_dict({"options": "-c role=onlooker"})
            with (
                databases.opened(url.render_as_string(hide_password=False)) as looking,
                pytest.raises(CannotStore, match="permission denied"),
            ):
                looking.probe()
        finally:
            admin.execute("DROP OWNED BY onlooker")
            admin.execute("DROP ROLE onlooker")


def test_hints_arrive_above_thousandth_descriptor(made_url: str) -> None:
    """Connections of senders take the low numbers; that of LISTEN may be made anew any time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    notified = threading.Event()
    with ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        one, other = (stack.enter_context(databases.opened(made_url, serve=True)) for _ in range(2))
        one.listen(notified.set)
        other.hint()
        assert notified.wait(DEADLINE)
        other.probe()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_read_only_server_is_obeyed(made_url: str) -> None:
    with psycopg.connect(made_url, autocommit=True) as admin:
        change = f"ALTER DATABASE {admin.info.dbname}".encode()
        admin.execute(change + b" SET default_transaction_read_only = on")
        try:
            with databases.opened(made_url) as store:
                assert store.events.list_newest() == []
                with pytest.raises(CannotStore, match="read-only"):
                    store.sources.probe_now()
        finally:
            admin.execute(change + b" RESET ALL")


@pytest.mark.parametrize(("limit", "name"), [("1", "statement"), ("2", "cut")])
def test_statement_timeout_is_named_as_such(
    made_url: str, monkeypatch: pytest.MonkeyPatch, limit: str, name: str
) -> None:
    class Short(engine.Pool):
        def __init__(self, *given: Any, **limits: Any) -> None:
            super().__init__(*given, **{**limits, name: float(limit)})

    monkeypatch.setattr(postgres, "Pool", Short)
    with (
        databases.opened(made_url) as store,
        pytest.raises(CannotStore, match=f"it took longer than {limit} s\\.$"),
        store.database.read() as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(60)")


def test_cancelled_statement_is_no_timeout(store: Store, made_url: str) -> None:
    def work(connection: Connection) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        stop = f"SELECT pg_cancel_backend({pid})"
        threading.Timer(0.2, behind.execute, [made_url, stop]).start()
        connection.exec_driver_sql("SELECT pg_sleep(60)")

    with pytest.raises(CannotStore, match="due to user request"):
        store.database.write(work)
