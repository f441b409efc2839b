"""Parallel's groups, as its official SDK sees them."""

from typing import Any

import httpx
import parallel as sdk
import pytest
from parallel import Parallel

from receiver.sandbox import ManualClock, SandboxServer
from tests.receiver.sandbox.parallel.calls import SPEC, a_group, slowly


def test_group_without_runs_is_inactive(parallel: Parallel) -> None:
    made = parallel.task_group.create(metadata={"job": "ceo-list"})
    group = parallel.task_group.retrieve(made.task_group_id)
    assert group == made
    assert (group.status.num_task_runs, group.status.is_active) == (0, False)
    assert group.metadata == {"job": "ceo-list"}


def test_runs_are_added_in_their_order(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    group = parallel.task_group.create().task_group_id
    inputs: Any = [{"input": {"row": row}, "processor": "core"} for row in range(3)]
    added = parallel.task_group.add_runs(group, inputs=inputs)
    assert added.status.task_run_status_counts == {"queued": 3}
    assert added.status.is_active
    assert (added.run_cursor, added.event_cursor) == ("", "")
    runs = [parallel.task_group.retrieve_run(run, task_group_id=group) for run in added.run_ids]
    assert [run.task_group_id for run in runs] == [group] * 3


def test_group_counts_how_runs_ended(parallel: Parallel) -> None:
    group, _ = a_group(parallel, "one", "two [fail]", "three")
    status = parallel.task_group.retrieve(group).status
    assert status.task_run_status_counts == {"completed": 2, "failed": 1}
    assert (status.num_task_runs, status.is_active) == (3, False)


def test_first_runs_may_fail(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(failing_tasks=2)
    group, _ = a_group(parallel, "one", "two", "three")
    counts = parallel.task_group.retrieve(group).status.task_run_status_counts
    assert counts == {"completed": 1, "failed": 2}


def test_default_spec_fills_in(parallel: Parallel) -> None:
    group = parallel.task_group.create().task_group_id
    inputs: Any = [
        {"input": "q", "processor": "core"},
        {"input": "q", "processor": "core", "task_spec": {"output_schema": "a report"}},
    ]
    added = parallel.task_group.add_runs(group, inputs=inputs, default_task_spec=SPEC)
    types = [parallel.task_run.result(run).output.type for run in added.run_ids]
    assert types == ["json", "text"]


def test_runs_can_be_added_any_time(parallel: Parallel) -> None:
    group, first = a_group(parallel, "one", "two")
    inputs: Any = [{"input": "three", "processor": "core"}]
    added = parallel.task_group.add_runs(group, inputs=inputs)
    assert added.run_cursor == "2"
    seen: list[Any] = list(parallel.task_group.get_runs(group, last_event_id=added.run_cursor))
    assert [event.run.run_id for event in seen] == added.run_ids != first


def test_request_takes_a_thousand_inputs(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    group = parallel.task_group.create().task_group_id
    inputs: Any = [{"input": "q", "processor": "core"}] * 1001
    with pytest.raises(sdk.UnprocessableEntityError, match="1,000") as refused:
        parallel.task_group.add_runs(group, inputs=inputs)
    body: Any = refused.value.body
    assert list(body) == ["detail"]
    added = parallel.task_group.add_runs(group, inputs=inputs[:1000])
    assert (len(set(added.run_ids)), added.status.num_task_runs) == (1000, 1000)


def test_one_wrong_input_refuses_all(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(parallel_plain_422=True)
    group = parallel.task_group.create().task_group_id
    good: Any = {"input": "q", "processor": "core"}
    with pytest.raises(sdk.UnprocessableEntityError) as refused:
        parallel.task_group.add_runs(group, inputs=[good, {"input": "q"}])  # type: ignore[typeddict-item]
    body: Any = refused.value.body
    assert body["type"] == "error"
    assert parallel.task_group.retrieve(group).status.num_task_runs == 0


def test_an_unknown_group_is_a_404(parallel: Parallel) -> None:
    with pytest.raises(sdk.NotFoundError, match="TaskGroup not found"):
        parallel.task_group.retrieve("tgrp_none")
    with pytest.raises(sdk.NotFoundError, match="TaskGroup not found"):
        list(parallel.task_group.get_runs("tgrp_none"))


def test_run_is_unknown_in_other_group(parallel: Parallel) -> None:
    _, runs = a_group(parallel, "one")
    other, _ = a_group(parallel, "two")
    with pytest.raises(sdk.NotFoundError, match="Run not found"):
        parallel.task_group.retrieve_run(runs[0], task_group_id=other)


def test_an_added_run_can_show_an_old_status(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    group = parallel.task_group.create().task_group_id
    inputs: Any = [{"input": "q", "processor": "core"}]
    added = parallel.task_group.add_runs(group, inputs=inputs, refresh_status=False)
    assert added.status.num_task_runs == 0
    assert parallel.task_group.retrieve(group).status.num_task_runs == 1


def test_group_status_may_be_stale(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    sandbox.change(parallel_stale_status=30)
    group, _ = a_group(parallel, "one")
    assert parallel.task_group.retrieve(group).status.task_run_status_counts == {"queued": 1}
    clock.advance(30)
    assert parallel.task_group.retrieve(group).status.task_run_status_counts == {"completed": 1}


def test_a_group_can_seem_inactive_too_early(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(parallel_early_inactive=True)
    group, _ = a_group(parallel, "one [stuck]")
    status = parallel.task_group.retrieve(group).status
    assert (status.is_active, status.task_run_status_counts) == (False, {"running": 1})


def test_the_state_shows_runs_and_groups(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, _ = a_group(parallel, "one", "two [stuck]")
    state = sandbox.state()
    assert state["parallel_runs"] == {"completed": 1, "running": 1}
    assert [each["taskgroup_id"] for each in state["parallel_groups"]] == [group]


def test_calls_counted_by_endpoint_and_version(parallel: Parallel, sandbox: SandboxServer) -> None:
    slowly(sandbox)
    group = parallel.task_group.create().task_group_id
    parallel.get(f"/v1beta/tasks/groups/{group}", cast_to=httpx.Response)
    assert sandbox.state()["calls"] == {
        "POST /tasks/groups": 1,
        "GET /v1beta/tasks/groups/{group_id}": 1,
    }
