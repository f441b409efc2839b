"""Parallel's runs, as its official SDK sees them."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import parallel as sdk
import pytest
from parallel import Parallel

from receiver.sandbox import ManualClock, SandboxServer
from tests.processes import until
from tests.receiver.sandbox.parallel.calls import SPEC, slowly


def waits_for_result(
    pool: ThreadPoolExecutor, parallel: Parallel, sandbox: SandboxServer, run: str, *, seconds: int
) -> Future[Any]:
    """A request for a result that has come to the sandbox, and waits there."""
    waiting = pool.submit(parallel.task_run.result, run, api_timeout=seconds)
    until(lambda: "GET /tasks/runs/{run_id}/result" in sandbox.state()["calls"])
    return waiting


def test_run_is_queued_then_awaited(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    slowly(sandbox)
    made = parallel.task_run.create(input="q", processor="base", metadata={"row": "1"})
    assert (made.status, made.is_active, made.interaction_id) == ("queued", True, made.run_id)
    with ThreadPoolExecutor() as pool:
        waiting = waits_for_result(pool, parallel, sandbox, made.run_id, seconds=5)
        clock.advance(3)
        result = waiting.result()
    assert (result.run.status, result.run.metadata) == ("completed", {"row": "1"})
    assert parallel.task_run.retrieve(made.run_id).is_active is False


def test_a_text_has_one_basis(parallel: Parallel) -> None:
    text: Any = {"output_schema": "a report"}
    made = parallel.task_run.create(input="q", processor="base", task_spec=text)
    output = parallel.task_run.result(made.run_id).output
    assert (output.type, [basis.field for basis in output.basis]) == ("text", ["output"])
    assert str(output.content).startswith("# q")


def test_every_field_of_an_object_has_a_basis(parallel: Parallel) -> None:
    made = parallel.task_run.create(input={"name": "a"}, processor="core", task_spec=SPEC)
    output = parallel.task_run.result(made.run_id).output
    assert isinstance(output.content, dict)
    assert [type(part) for part in output.content.values()] == [str, int, list]
    fields = [basis.field for basis in output.basis]
    assert fields == ["ceo", "staff", "offices", "offices.0", "offices.1"]
    citations = output.basis[0].citations
    assert citations is not None
    assert all(each.excerpts for each in citations)
    assert output.basis[0].confidence in ("low", "medium", "high")


def test_output_without_spec_brings_schema(parallel: Parallel) -> None:
    made = parallel.task_run.create(input="q", processor="lite")
    output = parallel.task_run.result(made.run_id).output
    assert output.type == "json"
    assert set(output.content) == set((output.output_schema or {})["properties"])  # type: ignore[call-overload]


def test_outputs_follow_seed_and_input(parallel: Parallel, sandbox: SandboxServer) -> None:
    def content(seed: int) -> object:
        sandbox.change(seed=seed)
        made = parallel.task_run.create(input="q", processor="base", task_spec=SPEC)
        return parallel.task_run.result(made.run_id).output.content

    assert content(1) == content(1) != content(2)


@pytest.mark.parametrize("schema", ["a report", SPEC["output_schema"]])
def test_an_output_can_be_ordered_large(
    parallel: Parallel, sandbox: SandboxServer, schema: Any
) -> None:
    sandbox.change(output_bytes=100_000)
    made = parallel.task_run.create(
        input="q", processor="base", task_spec={"output_schema": schema}
    )
    content = parallel.task_run.result(made.run_id).output.content
    assert len(content["ceo"] if isinstance(content, dict) else content) == 100_000  # type: ignore[arg-type]


def test_the_input_can_be_read_again(parallel: Parallel) -> None:
    made = parallel.task_run.create(
        input={"a": 1}, processor="core", metadata={"row": "1"}, task_spec=SPEC
    )
    answered = parallel.get(f"/v1/tasks/runs/{made.run_id}/input", cast_to=httpx.Response)
    assert answered.json() == {
        "input": {"a": 1},
        "metadata": {"row": "1"},
        "processor": "core",
        "task_spec": SPEC,
    }


def test_late_result_is_a_408(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    made = parallel.task_run.create(input="q [stuck]", processor="base")
    with ThreadPoolExecutor() as pool:
        waiting = waits_for_result(pool, parallel, sandbox, made.run_id, seconds=20)
        assert (clock.next_call(), waiting.done()) == (20, False)
        clock.advance(20)
        with pytest.raises(sdk.APIStatusError, match="still active") as refused:
            waiting.result()
    assert refused.value.status_code == 408


def test_result_wait_can_be_limited(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(parallel_result_timeout=0)
    made = parallel.task_run.create(input="q [stuck]", processor="base")
    with pytest.raises(sdk.APIStatusError, match="still active"):
        parallel.task_run.result(made.run_id, api_timeout=600)


def test_failed_run_has_error_only(parallel: Parallel) -> None:
    made = parallel.task_run.create(input="q [fail]", processor="base")
    run = parallel.task_run.retrieve(made.run_id)
    assert (run.status, run.error and run.error.message) == ("failed", "Task execution failed")
    with pytest.raises(sdk.NotFoundError, match="Run failed or run id not found"):
        parallel.task_run.result(made.run_id)


def test_unknown_run_is_404(parallel: Parallel) -> None:
    with pytest.raises(sdk.NotFoundError) as refused:
        parallel.task_run.retrieve("trun_none")
    body: Any = refused.value.body
    assert (body["type"], body["error"]["message"]) == ("error", "Run not found")
    assert body["error"]["ref_id"]
    with pytest.raises(sdk.NotFoundError):
        parallel.task_run.result("trun_none")


def test_one_key_can_be_required(parallel: Parallel, sandbox: SandboxServer) -> None:
    with pytest.raises(sdk.AuthenticationError, match="Invalid API key"):
        parallel.task_run.retrieve("trun_none", extra_headers={"x-api-key": ""})
    sandbox.change(api_key="the one")
    with pytest.raises(sdk.AuthenticationError):
        parallel.task_run.create(input="q", processor="base")
    assert parallel.with_options(api_key="the one").task_run.create(input="q", processor="base")


def test_unknown_processor_is_403(parallel: Parallel) -> None:
    with pytest.raises(sdk.PermissionDeniedError, match="Invalid processor: gpt"):
        parallel.task_run.create(input="q", processor="gpt")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"processor": "base"}, "input"),
        ({"input": 1, "processor": "base"}, "input"),
        ({"input": "x" * 25_001, "processor": "base"}, "25,000"),
        ({"input": "q", "processor": "base", "task_spec": {"output_schema": "x" * 15_001}}, "15,0"),
        ({"input": "q", "processor": "base", "webhook": {"url": "http://far.example"}}, "HTTPS"),
        ({"input": "q", "processor": "base", "memory_scope_key": "no spaces"}, "memory_scope_key"),
        (
            {"input": "q", "processor": "base", "source_policy": {"include_domains": ["a"] * 201}},
            "200",
        ),
        ([], "dictionary"),
    ],
)
def test_nonsense_is_422(parallel: Parallel, wrong: Any, said: str) -> None:
    with pytest.raises(sdk.UnprocessableEntityError, match=said) as refused:
        parallel.post("/v1/tasks/runs", body=wrong, cast_to=httpx.Response)
    body: Any = refused.value.body
    assert body["error"]["detail"]["errors"]


def test_non_json_body_is_422(sandbox: SandboxServer) -> None:
    url = f"{sandbox.url}/v1/tasks/runs"
    refused = httpx.post(url, content=b"{", headers={"x-api-key": "k"}, trust_env=False)
    assert refused.status_code == 422


def test_a_switch_limits_the_length_of_metadata(parallel: Parallel, sandbox: SandboxServer) -> None:
    long: Any = {"input": "q", "processor": "base", "metadata": {"k" * 17: "v"}}
    parallel.task_run.create(**long)
    sandbox.change(parallel_metadata_limits=True)
    with pytest.raises(sdk.UnprocessableEntityError, match="16 characters"):
        parallel.task_run.create(**long)


def test_run_events_are_first_and_last_state(
    parallel: Parallel, sandbox: SandboxServer, clock: ManualClock
) -> None:
    slowly(sandbox)
    made = parallel.task_run.create(input="q", processor="pro", enable_events=True)
    with parallel.task_run.events(made.run_id) as stream:
        events: list[Any] = [next(stream)]
        clock.advance(3)
        events += stream
    assert [event.run.is_active for event in events] == [True, False]
    assert [event.output is None for event in events] == [True, False]


def test_everything_is_below_v1beta_too(parallel: Parallel) -> None:
    made: Any = parallel.post(
        "/v1beta/tasks/runs", body={"input": "q", "processor": "base"}, cast_to=httpx.Response
    ).json()
    assert parallel.task_run.retrieve(made["run_id"]).status == "completed"


def test_unknown_paths_have_errors_of_parallel(parallel: Parallel) -> None:
    for path in ("/v1/tasks/nothing", "/v1beta/nothing"):
        with pytest.raises(sdk.NotFoundError) as refused:
            parallel.get(path, cast_to=httpx.Response)
        body: Any = refused.value.body
        assert body["type"] == "error"


def test_held_runs_go_when_released(parallel: Parallel, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    made = parallel.task_run.create(input="q", processor="base")
    assert sandbox.state()["parallel_runs"] == {"queued": 1}
    sandbox.change(hold=False)
    assert parallel.task_run.retrieve(made.run_id).status == "completed"


def test_reset_forgets_runs_and_wakes_waiters(parallel: Parallel, sandbox: SandboxServer) -> None:
    made = parallel.task_run.create(input="q [stuck]", processor="base")
    with ThreadPoolExecutor() as pool:
        waiting = waits_for_result(pool, parallel, sandbox, made.run_id, seconds=600)
        sandbox.reset()
        assert isinstance(waiting.exception(), sdk.NotFoundError)
    assert sandbox.state()["parallel_runs"] == {}


def test_runs_can_look_like_old_samples(sandbox: SandboxServer) -> None:
    sandbox.change(parallel_old_runs=True, parallel_json_as_text=True, parallel_details=True)
    with httpx.Client(base_url=sandbox.url, headers={"x-api-key": "k"}, trust_env=False) as client:
        body = {"input": "q", "processor": "base", "task_spec": SPEC}
        run = client.post("/v1/tasks/runs", json=body).json()
        result = client.get(f"/v1/tasks/runs/{run['run_id']}/result").json()
        failed = client.post("/v1/tasks/runs", json={**body, "input": "[fail]"}).json()["run_id"]
        error = client.get(f"/v1/tasks/runs/{failed}").json()["error"]
        refused = client.post("/v1/tasks/runs", json={}).json()["error"]
    assert not {"interaction_id", "taskgroup_id"} & set(run)
    assert isinstance(result["output"]["content"], str)
    assert "details" in error
    assert "details" in refused
