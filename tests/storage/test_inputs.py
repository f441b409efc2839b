"""A run's input: our own record, what the sender echoes of it, and what it gives back whole."""

from typing import Any

import pytest

from storage import FetchedRun, Store, SubmittedRun
from storage.models import Run
from tests.storage.build import at, keep, rows, run

OURS = {"query": "ours", "depth": 2}


@pytest.fixture
def batch(store: Store) -> str:
    """A batch that we know of."""
    store.batches.register("valyu", "b", endpoint_id=None)
    return "b"


def fetched(store: Store, run: FetchedRun, seconds: float = 0) -> Any:
    """The run's input after a fetch has brought this."""
    store.database.write(lambda c: keep(c, run, fetched_at=at(seconds)))
    return known(store)


def known(store: Store) -> Any:
    (row,) = rows(store.database, Run)
    return row.input


def test_sender_s_echo_keeps_our_input(store: Store, batch: str) -> None:
    store.batches.add_runs("valyu", batch, [SubmittedRun("run-1", "t", OURS)])
    assert fetched(store, run(output="x", input={"query": "echo"})) == OURS


def test_echo_replaces_missing_input(store: Store) -> None:
    assert fetched(store, run(status="running")) is None
    assert fetched(store, run(output="x", input={"query": "echo"}), 1) == {"query": "echo"}


def test_complete_echo_beats_answer_order(store: Store, batch: str) -> None:
    store.batches.add_runs(
        "valyu", batch, [SubmittedRun("run-1", "t", {"query": "of another run"})]
    )
    told = run(output="x", input={"query": "its own"}, is_input_whole=True)
    assert fetched(store, told) == {"query": "its own"}
    assert fetched(store, run(output="x", input={"query": "echo"}), 1) == {"query": "its own"}


def test_absent_echo_takes_nothing(store: Store, batch: str) -> None:
    store.batches.add_runs("valyu", batch, [SubmittedRun("run-1", "t", OURS)])
    assert fetched(store, run(output="x", is_input_whole=True)) == OURS


def test_addition_answer_fills_open_inputs(store: Store, batch: str) -> None:
    assert fetched(store, run(output="x")) is None
    store.batches.add_runs("valyu", batch, [SubmittedRun("run-1", "t", OURS)])
    assert known(store) == OURS
