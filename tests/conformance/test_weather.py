"""Whatever becomes of the webhooks: a batch that is waited for ends complete, and says how."""

import asyncio
from typing import Any

import pytest

from benchmarks.calls import check
from benchmarks.weather import REFUSED, ROUGH
from receiver.sandbox import SandboxServer
from storage import BatchStory
from tests.conformance.cases import Case
from tests.conformance.sink import Sink

# No SQL is at stake: the looks, and what they store, are tested on both databases elsewhere.
pytestmark = pytest.mark.one_database

RUNS = 60


def waited_for(
    case: Case, sandbox: SandboxServer, sink: Sink, weather: dict[str, Any]
) -> BatchStory:
    """The story of a batch whose webhooks had this weather, once it is complete."""
    sandbox.change(duration=0, hold=True, late_by=(0.1, 0.5), tries=2, **weather)
    batch_id = sink.create(case, RUNS)
    sandbox.change(hold=False)
    ledger = asyncio.run(sink.wait(case, batch_id))
    assert (ledger.state, ledger.stored) == ("complete", RUNS)
    check(case, sandbox, sink, batch_id, RUNS)
    return sink.store.batches.story(batch_id)


def test_lost_doubled_and_late_webhooks(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    found = waited_for(case, sandbox, sink, ROUGH)
    assert sum(found.arrivals.found_by.values()) == RUNS
    assert set(found.arrivals.found_by) <= {"webhook", "wait"}


def test_lost_webhook_of_a_batch(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    """Where one webhook announces all, it is lost or not."""
    if case.announced != "batch":
        pytest.skip("a share of its webhooks is lost in the test above")
    found = waited_for(case, sandbox, sink, {"dropped": 1.0})
    assert found.arrivals.found_by == {"wait": RUNS}


def test_refused_webhooks_of_a_batch(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    found = waited_for(case, sandbox, sink, REFUSED)
    assert found.arrivals.found_by == {"wait": RUNS}
    assert found.webhooks.refused > 0
    assert found.webhooks.reason == "mismatch"
