"""Which single runs are missing: each once, whoever expects it, until its result is here."""

import re
import sys
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from storage import CannotStore, Store
from storage.batches import outstanding
from tests import behind
from tests.storage.build import NOON, claim, deliver, delivery, enqueue, keep, run, tried


def stored(store: Store, *page: Any) -> None:
    store.database.write(lambda c: keep(c, *page))


@pytest.mark.parametrize("kind", ["task", "run", "contents"])
def test_run_outstanding_from_endpoint_until_result(store: Store, kind: str) -> None:
    endpoint_id = store.endpoints.add("valyu", kind)
    assert store.runs.count_outstanding("valyu") == 1  # whichever it will be
    store.endpoints.bind(endpoint_id, "run-1")
    deliver(store, delivery(endpoint_id=endpoint_id))
    stored(store, run(status="running"))
    assert store.runs.count_outstanding("valyu") == 1
    assert store.runs.count_outstanding("another") == 0
    stored(store, run())
    assert store.runs.count_outstanding("valyu") == 0


def test_unwatched_endpoint_is_not_outstanding(store: Store) -> None:
    endpoint_id = store.endpoints.add("valyu", "task")
    store.jobs.end_checks(endpoint_id)
    assert store.runs.count_outstanding("valyu") == 0


def test_run_of_dead_letter_is_outstanding(store: Store) -> None:
    enqueue(store.database)
    store.jobs.bury(claim(store.database)[0], tried("dead"))
    assert store.runs.count_outstanding("valyu") == 1
    stored(store, run())
    assert store.runs.count_outstanding("valyu") == 0


def test_runs_of_batches_are_left_out(store: Store) -> None:
    store.endpoints.add("valyu", "batch", resource="batch-1")
    store.endpoints.add("valyu", "account")
    enqueue(store.database, subject="of-a-batch", due=NOON)
    stored(store, run("of-a-batch", "running", batch_id="batch-1"))
    assert store.runs.count_outstanding("valyu") == 0


def test_each_outstanding_run_counts_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "a", "b", "c", "d", "e", "of-a-batch", "stored"):
        store.endpoints.add("valyu", "run", resource=name)
    for name in ("e", "f", "f", "g", "h", "known", "stored"):
        enqueue(store.database, subject=name)
    stored(store, *(run(name, "running") for name in ("known", "k2", "k3", "d")), run("stored"))
    stored(store, run("of-a-batch", "running", batch_id="batch-1"))
    missing = {*"abcdefgh", "known", "k2", "k3"}
    for read_rows in (1, 2, 3, 100):
        monkeypatch.setattr(outstanding, "READ_ROWS", read_rows)
        assert store.runs.count_outstanding("valyu") == len(missing)


def test_counting_takes_many_short_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        store.endpoints.add("valyu", "run", resource=f"run-{number}")
        store.batches.register("valyu", f"batch-{number}", endpoint_id=None)
    monkeypatch.setattr(outstanding, "READ_ROWS", 1)
    monkeypatch.setattr("storage.store.batches.LISTED_AT_ONCE", 2)
    reads: list[int] = []
    read = store.database.read

    def counted() -> AbstractContextManager[Connection]:
        reads.append(1)
        return read()

    monkeypatch.setattr(store.database, "read", counted)
    assert store.runs.count_outstanding("valyu") == 5
    assert len(reads) > 10
    reads.clear()
    listed = store.batches.list_newest(source="valyu", limit=sys.maxsize)
    assert [ledger.batch_id for ledger in listed] == [f"batch-{n}" for n in (4, 3, 2, 1, 0)]
    assert [ledger.batch_id for ledger in store.batches.list_newest(limit=3)][-1] == "batch-2"
    assert len(reads) == 3 + 2


@pytest.mark.postgres
@pytest.mark.parametrize("counted", ["jobs", "runs"])
def test_lost_connection_while_counting_is_temporary(
    store: Store, made_url: str, counted: str
) -> None:
    enqueue(store.database)
    stored(store, run(status="running"))

    def end(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if re.search(rf"FROM (\w+\.)?{counted}\b", statement) and "BETWEEN" in statement:
            pid = connection.connection.driver_connection.info.backend_pid
            behind.execute(made_url, f"SELECT pg_terminate_backend({pid}, 5000)")

    event.listen(Engine, "before_cursor_execute", end)
    try:
        with pytest.raises(CannotStore):
            store.runs.count_outstanding("valyu")
    finally:
        event.remove(Engine, "before_cursor_execute", end)
