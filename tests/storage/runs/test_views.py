"""Single runs: known before they are seen, noted outside of jobs, listed apart from batches."""

import pytest

from storage import (
    EndpointPlan,
    FetchedRun,
    NewSubmission,
    NotFound,
    Store,
    StoredTask,
    SubmittedRun,
    now,
)

DONE = FetchedRun("r1", "completed", "done", {"output": "x"}, output="x", cost=0.5)


def expect(store: Store, run_id: str = "r1", *, source: str = "valyu") -> str:
    """A run that was just created, at an endpoint of its own."""
    known = store.submissions.begin(
        NewSubmission(source, "run"),
        [StoredTask(None, {}, {})],
        endpoint=EndpointPlan("task", 60.0),
    )
    store.runs.expect(
        source,
        run_id,
        endpoint_id=known.endpoint_id,
        secret="s" * 64,
        input={"query": "q"},
        runner="fast",
        submission=known,
    )
    assert store.submissions.list_all() == []
    return str(known.endpoint_id)


def test_expected_run_is_bound_and_watched(store: Store) -> None:
    endpoint_id = expect(store)
    facts, raw = store.runs.show("r1")
    assert (facts["status"], facts["input"], facts["runner"]) == ("queued", {"query": "q"}, "fast")
    assert (facts["result_status"], raw) == (None, None)
    view = store.endpoints.find_by_resource("valyu", "r1")
    assert view is not None
    assert (view.id, len(view.secrets)) == (endpoint_id, 1)
    assert store.jobs.claim("valyu", limit=1) == []  # its check is due in a minute


def test_check_with_own_interval_says_so(store: Store) -> None:
    expect(store)
    store.runs.check("valyu", "task", "r1")
    (lease,) = store.jobs.claim("valyu", limit=1)
    assert (lease.subject, lease.progress) == ("r1", {"every": 60.0})


def test_run_without_endpoint_has_a_check(store: Store) -> None:
    for _ in range(2):  # knowing it again adds nothing
        store.runs.expect("valyu", "r1", endpoint_id=None, secret=None, input=None, runner=None)
    store.runs.check("valyu", "run", "r1")
    (lease,) = store.jobs.claim("valyu", limit=2)
    assert (lease.kind, lease.subject_kind, lease.subject) == ("check", "run", "r1")


def test_noted_run_has_state_and_result(store: Store) -> None:
    expect(store)
    began = now()
    asks = {"type": "plan_review"}
    waiting = FetchedRun("r1", "running", "awaiting_input", {}, waits_for=asks)
    store.runs.note("valyu", waiting, fetched_at=began)
    assert store.runs.show("r1")[0]["waits_for"] == asks
    store.runs.note("valyu", DONE, fetched_at=now())
    facts, raw = store.runs.show("r1")
    assert (facts["result_status"], facts["waits_for"], facts["cost"]) == ("completed", None, 0.5)
    assert (raw, facts["input"]) == ({"output": "x"}, {"query": "q"})
    store.runs.note("valyu", waiting, fetched_at=began)  # old news
    assert store.runs.show("r1")[0]["sender_status"] == "done"


def test_unknown_or_ambiguous_run_is_refused(
    store: Store,
) -> None:
    with pytest.raises(NotFound, match="There is no task r1: see `task list`"):
        store.runs.show("r1")
    expect(store)
    expect(store, source="other")
    with pytest.raises(NotFound, match=r"add --source \(other, valyu\)"):
        store.runs.show("r1")
    assert store.runs.show("r1", source="other")[0]["source"] == "other"


def test_single_runs_listed_newest_first(store: Store) -> None:
    store.batches.check("valyu", "batch_1")
    store.batches.add_runs("valyu", "batch_1", [SubmittedRun("of a batch", None, None)])
    for run_id, source in (("r1", "valyu"), ("r2", "other"), ("r3", "valyu")):
        expect(store, run_id, source=source)
    assert [row["run_id"] for row in store.runs.list_single()] == ["r3", "r2", "r1"]
    assert [row["run_id"] for row in store.runs.list_single(limit=2)] == ["r3", "r2"]
    assert [row["run_id"] for row in store.runs.list_single(source="other")] == ["r2"]
