"""Which single runs are missing: each once, whoever expects it, until its result is here."""

from typing import Any

import pytest

from storage import Store
from tests.storage.build import NOON, claim, deliver, delivery, enqueue, keep, run, tried


def stored(store: Store, *page: Any) -> None:
    store.database.write(lambda c: keep(c, *page))


@pytest.mark.parametrize("kind", ["task", "run", "contents"])
def test_a_run_is_missing_from_its_endpoint_on_until_its_result_is_here(
    store: Store, kind: str
) -> None:
    endpoint_id = store.add_endpoint("valyu", kind)
    assert store.count_owed("valyu") == 1  # whichever it will be
    store.bind_endpoint(endpoint_id, "run-1")
    deliver(store, delivery(endpoint_id=endpoint_id))
    stored(store, run(status="running"))
    assert store.count_owed("valyu") == 1
    assert store.count_owed("another") == 0
    stored(store, run())
    assert store.count_owed("valyu") == 0


def test_an_endpoint_that_nothing_looks_for_any_more_is_not_waited_for(store: Store) -> None:
    endpoint_id = store.add_endpoint("valyu", "task")
    store.end_checks(endpoint_id)
    assert store.count_owed("valyu") == 0


def test_what_a_dead_letter_was_for_is_missing(store: Store) -> None:
    enqueue(store.database)
    store.bury(claim(store.database)[0], tried("dead"))
    assert store.count_owed("valyu") == 1
    stored(store, run())
    assert store.count_owed("valyu") == 0


def test_the_runs_of_batches_are_left_to_their_ledgers(store: Store) -> None:
    store.add_endpoint("valyu", "batch", resource="batch-1")
    store.add_endpoint("valyu", "account")
    enqueue(store.database, subject="of-a-batch", due=NOON)
    stored(store, run("of-a-batch", "running", batch_id="batch-1"))
    assert store.count_owed("valyu") == 0
