"""Streams of groups: what they say, how they go wrong, and that they can be resumed."""

from typing import Any

import httpx
import parallel as sdk
import pytest
from parallel import Parallel

from receiver.sandbox import ManualClock, SandboxServer
from tests.processes import until
from tests.receiver.sandbox.parallel.calls import a_group, slowly


def streamed(parallel: Parallel, group: str, **query: Any) -> list[Any]:
    return list(parallel.task_group.get_runs(group, **query))


def until_it_breaks(parallel: Parallel, group: str, cursor: str) -> tuple[list[Any], bool]:
    """The events that came, and True if the connection was cut."""
    came: list[Any] = []
    try:
        for event in parallel.task_group.get_runs(group, last_event_id=cursor):
            came.append(event)
    except httpx.RemoteProtocolError:
        return came, True
    return came, False


def test_ended_runs_are_streamed_with_requested_parts(parallel: Parallel) -> None:
    group, runs = a_group(parallel, {"row": 1}, {"row": 2, "x": "[fail]"}, metadata={"a": "b"})
    plain = streamed(parallel, group)
    assert [event.event_id for event in plain] == ["1", "2"]
    assert [event.run.run_id for event in plain] == runs
    assert all(event.input is None and event.output is None for event in plain)
    first, second = streamed(parallel, group, include_input=True, include_output=True)
    assert (first.input.input, first.input.metadata) == ({"row": 1}, {"a": "b"})
    assert first.output.content["ceo"]
    assert (second.run.status, second.output) == ("failed", None)


def test_runs_are_streamed_by_status(parallel: Parallel) -> None:
    group, runs = a_group(parallel, "one", "two [fail]")
    assert [each.run.run_id for each in streamed(parallel, group, status="failed")] == runs[1:]
    with pytest.raises(sdk.UnprocessableEntityError):
        streamed(parallel, group, status="done")


def test_run_stream_waits_for_nothing(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, runs = a_group(parallel, "one [stuck]", "two")
    assert [each.run.run_id for each in streamed(parallel, group)] == runs[1:]
    sandbox.change(parallel_stream_active=True)
    listed = streamed(parallel, group)
    assert [(each.event_id, each.run.status) for each in listed] == [
        ("1", "completed"),
        ("1", "running"),
    ]


def test_stream_resumes_after_an_event(parallel: Parallel) -> None:
    group, _ = a_group(parallel, "one", "two", "three")
    assert len(streamed(parallel, group, last_event_id="0")) == 3
    assert [each.event_id for each in streamed(parallel, group, last_event_id="2")] == ["3"]
    assert streamed(parallel, group, last_event_id="3") == []


@pytest.mark.parametrize("cursor", ["4", "x", "-1", "\u0661", "9" * 30])
def test_foreign_cursor_is_422(parallel: Parallel, cursor: str) -> None:
    group, _ = a_group(parallel, "one", "two", "three")
    with pytest.raises(sdk.UnprocessableEntityError, match="last_event_id"):
        streamed(parallel, group, last_event_id=cursor)


def test_a_good_cursor_can_be_refused(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, _ = a_group(parallel, "one", "two")
    sandbox.change(parallel_refuse_cursors=True)
    with pytest.raises(sdk.UnprocessableEntityError):
        streamed(parallel, group, last_event_id="1")
    assert len(streamed(parallel, group)) == 2


def test_events_follow_group_to_end(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    slowly(sandbox)
    group, runs = a_group(parallel, "one", "two [fail]")
    stream = parallel.task_group.events(group)
    events: list[Any] = [next(stream)]
    clock.advance(3)
    events += stream
    ended = [event for event in events if event.type == "task_run.state"]
    statuses = [event.status for event in events if event.type == "task_group_status"]
    assert {event.run.run_id for event in ended} == set(runs)
    assert [event.event_id for event in ended] == ["1", "2"]
    assert [status.is_active for status in statuses][0 :: len(statuses) - 1] == [True, False]
    assert statuses[-1].task_run_status_counts == {"completed": 1, "failed": 1}


def test_events_resume_after_a_status(parallel: Parallel) -> None:
    group, _ = a_group(parallel, "one", "two")
    events: list[Any] = list(parallel.task_group.events(group, last_event_id="1"))
    assert [(event.type, event.event_id) for event in events] == [
        ("task_run.state", "2"),
        ("task_group_status", "2"),
    ]


def test_events_end_after_their_time(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    sandbox.change(speed=10)
    group, _ = a_group(parallel, "one [stuck]")
    stream = parallel.task_group.events(group, api_timeout=30)
    only = next(stream)
    until(lambda: clock.next_call() == 3)
    clock.advance(3)
    assert list(stream) == []
    assert isinstance(only, sdk.types.TaskGroupStatusEvent)
    assert only.status.is_active


def test_a_reset_ends_open_streams(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, _ = a_group(parallel, "one [stuck]")
    with parallel.task_group.events(group) as events:
        assert next(events).type == "task_group_status"
        sandbox.reset()
        assert [event.type for event in events] == []


@pytest.mark.parametrize("cleanly", [False, True])
def test_broken_stream_is_resumed_to_its_end(
    parallel: Parallel, sandbox: SandboxServer, cleanly: bool
) -> None:
    sandbox.change(parallel_drop_after=2, parallel_drop_cleanly=cleanly)
    group, runs = a_group(parallel, "one", "two", "three", "four", "five")
    seen: list[Any] = []
    cuts = []
    for _ in range(3):
        came, cut = until_it_breaks(parallel, group, seen[-1].event_id if seen else "")
        seen += came
        cuts.append(cut)
    assert [event.run.run_id for event in seen] == runs
    assert cuts == [not cleanly, not cleanly, False]


def test_error_event_may_end_stream(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(parallel_error_after=1)
    group, _ = a_group(parallel, "one", "two")
    first, error = streamed(parallel, group)
    assert (first.event_id, error.type) == ("1", "error")
    assert error.error.message
    assert [each.event_id for each in streamed(parallel, group, last_event_id="1")] == ["2"]


def test_streams_can_lack_outputs_that_results_have(
    parallel: Parallel, sandbox: SandboxServer
) -> None:
    sandbox.change(parallel_late_outputs=1)
    group, runs = a_group(parallel, "one", "two")
    outputs = [each.output is None for each in streamed(parallel, group, include_output=True)]
    assert outputs == [True, False]
    assert parallel.task_run.result(runs[0]).output.content


def test_late_outputs_come_in_the_end(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    sandbox.change(parallel_late_outputs=1, parallel_late_for=30)
    group, _ = a_group(parallel, "one")
    assert streamed(parallel, group, include_output=True)[0].output is None
    clock.advance(31)
    assert streamed(parallel, group, include_output=True)[0].output is not None


@pytest.mark.parametrize("path", ["runs", "events"])
def test_stream_may_break_in_first_event(
    parallel: Parallel, sandbox: SandboxServer, path: str
) -> None:
    group, _ = a_group(parallel, "one")
    sandbox.add_fault(f"GET /tasks/groups/*/{path}", kind="cut")
    with pytest.raises(sdk.APIConnectionError) as cut:
        parallel.get(f"/v1/tasks/groups/{group}/{path}", cast_to=httpx.Response)
    assert "incomplete" in str(cut.value.__cause__)
