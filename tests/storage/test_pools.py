"""The connections that a store has to Postgres: the intake's, those for work, and the one kept."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from storage import CannotStore, Store
from storage.database.standing import SERVED
from storage.models import Event
from tests.storage.build import deliver, delivery, rows

pytestmark = pytest.mark.postgres

DEADLINE = 30.0


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


def test_a_delivery_is_recorded_while_work_holds_all_its_connections(store: Store) -> None:
    with no_connection_for_work(store):
        assert deliver(store, delivery("event")) == ["accepted"]
    assert [row.key for row in rows(store.database, Event)] == ["event"]


def test_an_endpoint_is_found_while_work_holds_all_its_connections(store: Store) -> None:
    endpoint_id = store.add_endpoint("valyu", "batch", resource="batch-1")
    store.set_secret(endpoint_id, "secret")
    with no_connection_for_work(store):
        assert store.find_endpoint(endpoint_id) is not None
        assert store.find_endpoint_of("valyu", "batch-1") is not None
        assert store.endpoints_revision() > 0


HOLDERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
WHERE locktype = 'advisory' AND (classid, objid) = (%s, %s)
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def keep_writing(store: Store) -> None:
    """Until that is refused: another thread notices what was lost, and not at once."""
    deadline = time.monotonic() + DEADLINE / 3
    while time.monotonic() < deadline:
        store.probe()


def test_nothing_is_written_where_somebody_has_the_database_alone(
    store: Store, made_url: str
) -> None:
    """As `db copy` has it: what came in behind its back would be lost."""
    with psycopg.connect(made_url, autocommit=True) as other:
        while other.execute("SELECT pg_try_advisory_lock(%s, %s)", SERVED).fetchone() != (True,):
            other.execute(HOLDERS, SERVED)
        with pytest.raises(CannotStore, match="being copied"):
            keep_writing(store)
        with pytest.raises(CannotStore, match="being copied"):
            deliver(store, delivery())
    assert rows(store.database, Event) == []
