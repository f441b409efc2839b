"""The gaps of an export."""

import pytest

from storage import Store
from storage.export.gaps import Gaps
from tests.behind import execute
from tests.databases import url_of
from tests.storage import build


def test_nothing_is_lacking_in_an_empty_store(store: Store) -> None:
    assert store.export.sources() == []
    assert store.export.gaps([]) == Gaps([], 0, {})
    assert not store.export.gaps(["valyu"])


def test_sources_come_from_endpoints_batches_and_runs(store: Store) -> None:
    store.endpoints.add("c", "account")
    store.batches.register("a", "b1", endpoint_id=None)
    for source in ("b", "a"):
        store.runs.note(source, build.run("r1", batch_id=None), fetched_at=store.now())
    assert store.export.sources() == ["a", "b", "c"]


DAMAGES = [
    "UPDATE results SET is_current = false",
    "UPDATE runs SET status = 'failed'",
    "UPDATE batches SET submitted = 2",
    "UPDATE batches SET pending = 1",
    "DELETE FROM results",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_open_is_what_the_ledger_says(store: Store, damage: str) -> None:
    store.batches.register("valyu", "b1", endpoint_id=None)
    store.runs.note("valyu", build.run("r1", batch_id="b1"), fetched_at=store.now())
    execute(url_of(store), "UPDATE batches SET state = 'complete'")
    assert (store.batches.list_newest()[0].state, bool(store.export.gaps(["valyu"]))) == (
        "complete",
        False,
    )
    assert list(store.unfinished.batches("valyu")) == []
    execute(url_of(store), damage)
    assert store.batches.list_newest()[0].state == "open"
    assert [each.batch_id for each in store.export.gaps(["valyu"]).batches] == ["b1"]
    assert [check.subject for page in store.unfinished.batches("valyu") for check in page] == ["b1"]


def test_gaps_are_of_the_named_sources_alone(store: Store) -> None:
    store.batches.register("a", "b1", endpoint_id=None)
    store.endpoints.add("b", "task", resource="t1")
    assert [ledger.batch_id for ledger in store.export.gaps(["a"]).batches] == ["b1"]
    assert store.export.gaps(["b"]) == Gaps([], 0, {"b": 1})
