"""Fetching: every field, every way in which a listing goes wrong, and without any webhook."""

from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox import SandboxServer
from tests.conformance.cases import CASES, Case
from tests.conformance.sink import Sink, running

pytestmark = pytest.mark.one_database
"""Each sender's listings are at stake; tests/receiver/work/fetch has them stored on both."""

VALYU, PARALLEL, V0 = CASES.values()


def shown_alone(
    case: Case, sandbox: SandboxServer, sink: Sink, batch_id: str
) -> list[dict[str, Any]]:
    """Return what the sender says of each run of a batch, by one call for each."""
    task_id = sink.store.batches.ledger(batch_id).task_id
    return [case.shown_alone(sandbox, task_id, run_id) for run_id in sink.runs(batch_id)]


def shown(sink: Sink, batch_id: str) -> list[dict[str, Any]]:
    """Return the stored values of these fields."""
    names = ("status", "runner", "input", "output", "sources", "error")
    return [{name: result[name] for name in names} for result in sink.results(batch_id)]


def test_fields_equal_those_of_single_run(
    case: Case, sandbox: SandboxServer, long_lived: Sink
) -> None:
    sink = long_lived
    sandbox.change(failing_tasks=1)
    batch_id = sink.create(case, 4)
    ledger = sink.complete(batch_id)
    assert (ledger.name, ledger.runner) == (case.plan.name, case.plan.runner)
    assert (ledger.expected, ledger.announced, ledger.stored, ledger.failed) == (4, 4, 4, 1)
    results = shown(sink, batch_id)
    assert results == shown_alone(case, sandbox, sink, batch_id)
    kinds = [
        (result["status"], bool(result["output"]), bool(result["error"])) for result in results
    ]
    assert sorted(kinds) == [("completed", True, False)] * 3 + [("failed", False, True)]
    assert [result["batch_id"] for result in sink.results(batch_id)] == [batch_id] * 4


REFUSED = {"match": "?*last_key=*", "status": 400, "times": 2}
CUT = {"match": "", "kind": "cut"}

BAD_LISTINGS: dict[str, tuple[Case, dict[str, Any], list[dict[str, Any]]]] = {
    "pages end late": (
        VALYU,
        {"max_page_size": 3, "has_more": "late", "page_order": "newest"},
        [],
    ),
    "pages end early": (VALYU, {"max_page_size": 3, "has_more": "early"}, []),
    "cursors are refused": (VALYU, {"max_page_size": 3}, [REFUSED]),
    "pages have no outputs": (VALYU, {"outputs_in_list": False}, []),
    "streams drop": (PARALLEL, {"parallel_drop_after": 3, "parallel_stream_active": True}, []),
    "streams drop cleanly": (
        PARALLEL,
        {"parallel_drop_after": 3, "parallel_drop_cleanly": True, "parallel_old_runs": True},
        [],
    ),
    "streams end with an error": (
        PARALLEL,
        {"parallel_error_after": 4, "parallel_late_outputs": 2},
        [],
    ),
    "no stream is resumed": (
        PARALLEL,
        {"parallel_drop_after": 4, "parallel_refuse_cursors": True},
        [],
    ),
    "an array is cut": (V0, {}, [CUT]),
    "lines are cut": (V0, {"v0_export_json": "ndjson", "v0_export_rows": "terminal"}, [CUT]),
}


@pytest.mark.parametrize("habit", BAD_LISTINGS)
def test_failing_listing_stores_each_run_once(
    habit: str, sandbox: SandboxServer, long_lived: Sink
) -> None:
    sink = long_lived
    case, switches, faults = BAD_LISTINGS[habit]
    sandbox.change(hold=True, failing_tasks=1, webhook=False, **switches)
    batch_id = sink.create(case, 10)
    sandbox.change(hold=False)
    for fault in faults:
        sandbox.add_fault(**{**fault, "match": case.lists + fault["match"]})
    sink.look(case, batch_id)
    ledger = sink.complete(batch_id, hurried=True)
    assert (ledger.stored, ledger.failed) == (10, 1)
    assert [result["version"] for result in sink.results(batch_id)] == [1] * 10
    assert sandbox.state()["faults"] == []
    sandbox.change(outputs_in_list=True)
    assert shown(sink, batch_id) == shown_alone(case, sandbox, sink, batch_id)


def test_csv_export_brings_every_run(
    database_url: str, tmp_path: Path, sandbox: SandboxServer
) -> None:
    """CSV knows no types: what it brings is text."""
    csv = {"api": {"export": "csv"}}
    sandbox.change(failing_tasks=1, webhook=False)
    with running(tmp_path, sandbox, database_url=database_url, parallel_v0=csv) as sink:
        batch_id = sink.create(V0, 4)
        sink.look(V0, batch_id)
        assert sink.complete(batch_id).failed == 1
        expected = shown_alone(V0, sandbox, sink, batch_id)
        for each in expected[1:]:
            each["output"] = {key: str(value) for key, value in each["output"].items()}
        assert shown(sink, batch_id) == expected


def test_status_map_stands_for_unaskable_run(sandbox: SandboxServer, long_lived: Sink) -> None:
    sink = long_lived
    sandbox.change(failing_tasks=1, v0_run_path="result", webhook=False)
    batch_id = sink.create(V0, 3)
    sink.look(V0, batch_id)
    assert sink.complete(batch_id).failed == 1
    assert [result["status"] for result in sink.results(batch_id)] == [
        "failed",
        "completed",
        "completed",
    ]


def test_unannounced_runs_are_found(case: Case, sandbox: SandboxServer, long_lived: Sink) -> None:
    sink = long_lived
    sandbox.change(hold=True, webhook=False)
    batch_id = sink.create(case, 3)
    sink.look(case, batch_id)
    sandbox.change(hold=False)
    assert sink.store.batches.ledger(batch_id).stored == 0
    sink.look(case, batch_id)
    assert sink.complete(batch_id).stored == 3
    events = sink.events(batch_id, *sink.runs(batch_id))
    assert (sandbox.state()["deliveries"], events) == ([], [])
