"""The gaps of an export."""

from storage import Store
from storage.export.gaps import Gaps
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


def test_gaps_are_of_the_named_sources_alone(store: Store) -> None:
    store.batches.register("a", "b1", endpoint_id=None)
    store.endpoints.add("b", "task", resource="t1")
    assert [ledger.batch_id for ledger in store.export.gaps(["a"]).batches] == ["b1"]
    assert store.export.gaps(["b"]) == Gaps([], 0, {"b": 1})
