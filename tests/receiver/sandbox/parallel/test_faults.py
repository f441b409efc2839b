"""Every fault can be ordered for Parallel's paths too, and is written in its words."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import parallel as sdk
import pytest
from parallel import Parallel

from receiver.sandbox import ManualClock, SandboxServer
from tests.processes import until
from tests.receiver.sandbox.conftest import Inbox
from tests.receiver.sandbox.parallel.calls import a_group, webhook


def test_errors_look_like_parallel_s(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.add_fault("POST /tasks/runs", status=429, retry_after=7)
    with pytest.raises(sdk.RateLimitError) as refused:
        parallel.task_run.create(input="q", processor="base")
    body: Any = refused.value.body
    assert set(body) == {"type", "error"}
    assert refused.value.response.headers["Retry-After"] == "7"


def test_the_sdk_tries_again_by_itself(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.add_fault("POST /tasks/runs", status=503, retry_after=0)
    retrying = parallel.with_options(max_retries=1)
    assert retrying.task_run.create(input="q", processor="base").run_id


def test_fault_hits_one_version_only(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, _ = a_group(parallel, "one")
    sandbox.add_fault("GET /v1beta/tasks/groups/*", kind="html")
    assert parallel.task_group.retrieve(group)
    with pytest.raises(sdk.InternalServerError):
        parallel.get(f"/v1beta/tasks/groups/{group}", cast_to=httpx.Response)


def test_lost_answer_leaves_added_runs(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.add_fault("POST /tasks/groups/*/runs", kind="lost")
    with pytest.raises(sdk.APIConnectionError):
        a_group(parallel, "one", webhook=webhook(inbox))
    inbox.expect(1)
    assert sandbox.state()["parallel_runs"] == {"completed": 1}


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "hang", "seconds": 0}])
def test_connection_may_end_without_answer(
    parallel: Parallel, sandbox: SandboxServer, fault: dict[str, Any]
) -> None:
    group, _ = a_group(parallel, "one")
    sandbox.add_fault("GET /tasks/groups/*/runs", **fault)
    with pytest.raises(sdk.APIConnectionError):
        list(parallel.task_group.get_runs(group))


def test_a_stream_can_begin_late(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    group, _ = a_group(parallel, "one")
    sandbox.add_fault("GET /tasks/groups/*/runs", kind="slow", seconds=5)
    with ThreadPoolExecutor() as pool:
        events = pool.submit(lambda: list(parallel.task_group.get_runs(group)))
        until(clock.next_call)
        assert not events.done()
        clock.advance(5)
        assert len(events.result()) == 1


def test_result_may_be_cut_short(parallel: Parallel, sandbox: SandboxServer) -> None:
    _, runs = a_group(parallel, "one")
    sandbox.add_fault("GET /tasks/runs/*/result", kind="cut")
    with pytest.raises((sdk.APIConnectionError, httpx.RemoteProtocolError)):
        parallel.task_run.result(runs[0])


def test_a_cursor_can_be_refused_once(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, _ = a_group(parallel, "one")
    sandbox.add_fault("GET /tasks/groups/*/runs?**last_event_id=**", status=422)
    with pytest.raises(sdk.UnprocessableEntityError):
        list(parallel.task_group.get_runs(group, last_event_id="0"))
    assert len(list(parallel.task_group.get_runs(group, last_event_id="0"))) == 1
