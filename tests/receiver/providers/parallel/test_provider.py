"""Parallel v1: what its webhooks name, what its calls say, and how its answers are read."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import Unavailable
from receiver.providers.capabilities.batches import CancelsBatches, ListsBatches
from receiver.providers.capabilities.runs import CancelsRuns, UpdatesRuns
from receiver.providers.model import Announcement, Callback, Plan, Subject
from receiver.providers.parallel.limits import MAX_INPUT
from receiver.providers.parallel.provider import Parallel
from storage import FetchedBatch, FetchedRun

PARALLEL = Parallel()
RUN, OTHER = "trun_5f0c1d2e3b4a49788a9bacbdcedfe0f1", "trun_6a0c1d2e3b4a49788a9bacbdcedfe0f2"
GROUP = "tgrp_0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071"
THE_RUN, THE_GROUP = Subject("run", RUN), Subject("batch", GROUP)
LISTED = FetchedBatch(GROUP, "inactive", True)

# The sample exchange of the fact sheet (contracts/parallel.md, 7.2).
TASK_RUN: dict[str, Any] = {
    "run_id": RUN,
    "interaction_id": RUN,
    "status": "completed",
    "is_active": False,
    "warnings": None,
    "error": None,
    "processor": "core",
    "metadata": {"row": "1", "task_id": "acme"},
    "taskgroup_id": GROUP,
    "created_at": "2026-03-02T10:00:01.120000Z",
    "modified_at": "2026-03-02T10:03:44.902113Z",
}
FAILED = {**TASK_RUN, "status": "failed", "error": {"message": "Task failed", "detail": None}}
EVENT = {"timestamp": "2026-03-02T10:03:44.951000Z", "type": "task_run.status", "data": TASK_RUN}
BASIS = [{"field": "ceo", "citations": [{"url": "https://acme.test"}], "reasoning": "named"}]
OUTPUT = {"basis": BASIS, "type": "json", "content": {"ceo": 'Jane "JD" Doe'}}
STATE = {
    "type": "task_run.state",
    "event_id": "1",
    "input": {"processor": "core", "input": {"company": "Acme, Inc."}},
    "run": TASK_RUN,
    "output": OUTPUT,
}


def told(body: Any) -> Announcement | None:
    return PARALLEL.identify(body if isinstance(body, bytes) else json.dumps(body).encode())


def streamed(item: Any) -> FetchedRun | None:
    return PARALLEL.read_streamed(item, LISTED, defaults={}).run


# --- webhooks -----------------------------------------------------------------------------------


def test_an_event_names_its_run_its_group_and_its_status() -> None:
    assert told(EVENT) == Announcement("run", RUN, GROUP, "completed", None, is_end=True)


def test_an_older_event_names_less() -> None:
    old = {"type": "task_run.status", "data": {"run_id": RUN, "status": "failed"}}
    assert told(old) == Announcement("run", RUN, None, "failed")
    by_sdk = {"data": {"run_id": RUN, "status": "failed", "task_group_id": GROUP}}
    assert told(by_sdk) == Announcement("run", RUN, GROUP, "failed")


@pytest.mark.parametrize(
    ("status", "is_end"),
    [(name, True) for name in ("completed", "failed", "cancelled", "brand_new", None)]
    + [(name, False) for name in ("queued", "running", "action_required", "cancelling")],
)
def test_only_what_clearly_goes_on_is_no_end(status: Any, is_end: bool) -> None:
    found = told({**EVENT, "data": {**TASK_RUN, "status": status}})
    assert found is not None
    assert found.is_end is is_end


@pytest.mark.parametrize(
    ("kind", "data"),
    [("findall.run.completed", {"findall_id": "f1"}), ("monitor.event.detected", {"x": 1})],
)
def test_what_is_not_about_a_run_is_named_and_not_fetched(kind: str, data: Any) -> None:
    found = told({"type": kind, "data": data})
    assert found is not None
    assert found.kind == kind.partition(".")[0]
    assert found.kind not in PARALLEL.kinds


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"data": 5}', b'{"data": {"run_id": "a b"}}', b'{"data": {}}'),
        *(b'{"data": {"run_id": "a", "run_id": "b"}}', b'{"data": {"run_id": "a"}, "data": {}}'),
    ],
)
def test_what_names_no_run_for_certain_names_none(body: bytes) -> None:
    assert told(body) is None


@given(st.binary() | st.dictionaries(st.sampled_from([*EVENT]), st.text() | st.none()))
def test_whatever_comes_is_read_or_not_at_all(body: Any) -> None:
    found = told(body)
    assert found is None or found.resource.isascii()


def test_only_the_whole_story_of_a_failed_run_is_carried() -> None:
    def carried(data: Any, run_id: str = RUN) -> FetchedRun | None:
        return PARALLEL.read_embedded(json.dumps({**EVENT, "data": data}).encode(), run_id)

    run = carried(FAILED)
    assert run is not None
    assert (run.status, run.error) == ("failed", "Task failed")
    assert [carried(TASK_RUN), carried(FAILED, OTHER), carried(5)] == [None] * 3
    assert PARALLEL.read_embedded(b"no", RUN) is None


# --- creating -----------------------------------------------------------------------------------


def test_columns_are_the_input_unless_there_is_one_called_so() -> None:
    task = PARALLEL.new_task({"id": 7, "company": "Acme", "note": "", "processor": "core"})
    assert task.body == {
        "input": {"company": "Acme"},
        "processor": "core",
        "metadata": {"task_id": "7"},
    }
    assert (task.task_id, task.input) == ("7", {"company": "Acme"})
    text = PARALLEL.new_task({"input": "Who leads Acme?", "row": 1, "metadata": {"a": True}})
    assert text.body == {"input": "Who leads Acme?", "metadata": {"a": True, "row": 1}}
    assert (text.task_id, text.input) == (None, {"input": "Who leads Acme?"})


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({}, "the input is missing or empty"),
        ({"id": "a"}, "the input is missing or empty"),
        ({"input": 5}, "the input is missing or empty"),
        ({"input": "x" * (MAX_INPUT + 1)}, "25001 characters; 25000 are allowed"),
        ({"a": "x" * MAX_INPUT, "b": "y"}, "25001 characters; 25000 are allowed"),
        ({"input": "x", "metadata": "m"}, "`metadata` must be a JSON object"),
        ({"input": "x", "a_name_of_17_char": "y"}, "a name of more than 16 characters"),
        ({"input": "x", "note": "y" * 513}, "more than 512 characters"),
        ({"input": "x", "note": ["y"]}, "must be text or a number"),
        ({"input": "x", "id": "y" * 513}, "more than 512 characters"),
    ],
)
def test_a_row_that_is_no_task_says_why(row: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        PARALLEL.new_task(row)


@pytest.mark.parametrize(
    ("plan", "hint"),
    [
        (Plan(), "the processor is missing: give --processor"),
        (Plan(runner="core", prompt="p"), "no stored tasks"),
        (Plan(runner="core", task_id="t"), "no stored tasks"),
        (Plan(runner="core", name="n" * 513), "more than 512 characters"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_says_why(plan: Plan, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        PARALLEL.check(plan, [PARALLEL.new_task({"input": "x"})])
    PARALLEL.check(Plan(), [PARALLEL.new_task({"input": "x", "processor": "lite"})])


def test_a_group_is_created_by_its_name_alone() -> None:
    made = PARALLEL.create_batch(Plan(name="ceo-list"), webhook_url="https://a.test")
    assert (made.method, made.path) == ("POST", "/v1/tasks/groups")
    assert made.json == {"metadata": {"name": "ceo-list"}}
    assert PARALLEL.create_batch(Plan(), webhook_url=None).json == {}
    assert PARALLEL.read_created({"taskgroup_id": GROUP}).id == GROUP
    data: Any
    for data in ({}, [], {"taskgroup_id": "a b"}):
        with pytest.raises(Unavailable):
            PARALLEL.read_created(data)


def test_every_run_is_added_with_its_processor_its_webhook_and_the_schema_of_all() -> None:
    tasks = [PARALLEL.new_task({"q": "1"}), PARALLEL.new_task({"q": "2", "processor": "pro"})]
    schema = {"type": "object"}
    defaults = PARALLEL.defaults(Plan(runner="core", schema=schema), tasks)
    callback = Callback("https://a.test/webhooks/parallel", "")
    made = PARALLEL.add_tasks(THE_GROUP, tasks, defaults=defaults, callback=callback)
    assert made.path == f"/v1/tasks/groups/{GROUP}/runs"
    webhook = {"url": callback.url, "event_types": ["task_run.status"]}
    assert made.json == {
        "inputs": [
            {"input": {"q": "1"}, "processor": "core", "webhook": webhook},
            {"input": {"q": "2"}, "processor": "pro", "webhook": webhook},
        ],
        "default_task_spec": {"output_schema": {"type": "json", "json_schema": schema}},
    }
    plain = PARALLEL.add_tasks(THE_GROUP, tasks, defaults={"processor": "core"}, callback=None)
    assert plain.json == {
        "inputs": [
            {"input": {"q": "1"}, "processor": "core"},
            {"input": {"q": "2"}, "processor": "pro"},
        ]
    }


def test_what_was_added_are_runs_in_the_order_of_the_request() -> None:
    added = PARALLEL.read_added({"run_ids": [RUN, OTHER], "run_cursor": ""})
    assert [(run.run_id, run.status) for run in added] == [(RUN, "queued"), (OTHER, "queued")]
    assert [*map(PARALLEL.read_added, ({}, [], {"run_ids": 5}))] == [[]] * 3


def test_a_result_waits_for_as_long_as_the_source_says() -> None:
    result, itself = Parallel(result_seconds=25).run(THE_RUN)
    assert (result.path, result.params) == (f"/v1/tasks/runs/{RUN}/result", {"timeout": "25"})
    assert itself.path == f"/v1/tasks/runs/{RUN}"
    for value in (0, 601, "5"):
        with pytest.raises(ValueError, match="from 1 to 600"):
            Parallel(result_seconds=value)  # type: ignore[arg-type]


# --- reading ------------------------------------------------------------------------------------


def test_a_result_is_read_whole_with_its_citations() -> None:
    run = PARALLEL.read_run({"run": TASK_RUN, "output": OUTPUT}, THE_RUN)
    assert (run.run_id, run.batch_id, run.task_id, run.runner) == (RUN, GROUP, "acme", "core")
    assert (run.status, run.is_result, run.error) == ("completed", True, None)
    assert (run.output, run.output_type) == ({"ceo": 'Jane "JD" Doe'}, "json")
    assert run.sources == BASIS
    assert run.completed_at == datetime.fromisoformat(TASK_RUN["modified_at"])
    assert run.raw == {"run": TASK_RUN, "output": OUTPUT}


def test_a_run_alone_is_no_result_unless_it_failed() -> None:
    assert not PARALLEL.read_run(TASK_RUN, THE_RUN).is_result
    failed = PARALLEL.read_run(FAILED, THE_RUN)
    assert (failed.is_result, failed.error) == (True, "Task failed")


@pytest.mark.parametrize("status", ["queued", "running", "action_required", "cancelling", "new"])
def test_what_goes_on_is_running_also_where_it_is_not_active(status: str) -> None:
    run = PARALLEL.read_run({**TASK_RUN, "status": status, "is_active": False}, THE_RUN)
    assert run.status in ("queued", "running")
    assert (run.sender_status, run.completed_at) == (status, None)


@pytest.mark.parametrize(
    ("output", "content"),
    [
        ({"type": "json", "content": '{"a": 1}'}, {"a": 1}),
        ({"type": "json", "content": "{half"}, "{half"),
        ({"type": "text", "content": '{"a": 1}'}, '{"a": 1}'),
        ({"type": "json", "content": None}, None),
        ({"type": "text", "content": ""}, ""),
    ],
)
def test_json_content_may_come_as_text(output: Any, content: Any) -> None:
    run = PARALLEL.read_run({"run": TASK_RUN, "output": output}, THE_RUN)
    assert (run.output, run.is_result) == (content, True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "m", "detail": {"a": 1}}, "m ({'a': 1})"),
        ({"message": "m", "details": "d"}, "m (d)"),
        ({"code": 5}, "{'code': 5}"),
        ("text", "text"),
        (None, None),
    ],
)
def test_why_a_run_failed_is_kept(error: Any, said: str | None) -> None:
    assert PARALLEL.read_run({**FAILED, "error": error}, THE_RUN).error == said
    assert PARALLEL.read_run({**TASK_RUN, "error": error}, THE_RUN).error is None


@pytest.mark.parametrize("data", [None, [], {}, {"run": {}}, {**TASK_RUN, "run_id": OTHER}])
def test_an_answer_about_another_run_is_refused(data: Any) -> None:
    with pytest.raises(Unavailable):
        PARALLEL.read_run(data, THE_RUN)


def test_a_state_of_the_stream_brings_run_input_output_and_cursor() -> None:
    found = PARALLEL.read_streamed(STATE, LISTED, defaults={})
    assert (found.cursor, found.run is not None) == ("1", True)
    run = streamed(STATE)
    assert run is not None
    assert (run.input, run.output) == ({"company": "Acme, Inc."}, OUTPUT["content"])


def test_a_run_that_does_not_name_its_group_is_of_the_one_that_was_listed() -> None:
    alone = {name: value for name, value in TASK_RUN.items() if name != "taskgroup_id"}
    run = streamed({**STATE, "run": alone})
    assert run is not None
    assert run.batch_id == GROUP
    assert streamed({**STATE, "run": {**TASK_RUN, "taskgroup_id": "tgrp_2"}}) is None


def test_an_event_that_is_an_error_is_no_end() -> None:
    with pytest.raises(Unavailable, match="why"):
        streamed({"type": "error", "error": {"message": "why"}})


@pytest.mark.parametrize("item", [[], 5, None])
def test_an_event_that_is_none_tells_of_no_run(item: Any) -> None:
    assert streamed(item) is None


@pytest.mark.parametrize(
    ("counts", "total", "is_active", "is_terminal", "ended"),
    [
        ({"completed": 1, "failed": 1}, 2, False, True, 2),
        ({"completed": 1, "cancelled": "1"}, 2, False, True, 2),
        ({"completed": 1, "failed": 1}, 2, True, False, 2),
        ({"completed": 1, "failed": 1}, 2, None, False, 2),
        ({"completed": 1, "action_required": 1}, 2, False, False, 1),
        ({"completed": 1, "brand_new": 1}, 2, False, False, 1),
        ({}, 0, False, False, 0),
        (None, None, False, False, 0),
        # counts that do not add up tell nothing; then only the sender's word does
        ({"completed": 2}, 3, False, True, None),
        ({"completed": 2}, 3, True, False, None),
        ({"completed": 2}, None, False, False, None),
        ({}, 2, False, True, None),
        ({"completed": -1, "failed": "x"}, 1, False, True, None),
    ],
)
def test_a_group_has_ended_when_its_counts_and_its_rest_agree(
    counts: Any, total: Any, is_active: Any, is_terminal: bool, ended: int | None
) -> None:
    status = {"num_task_runs": total, "task_run_status_counts": counts, "is_active": is_active}
    batch = PARALLEL.read_batch({"taskgroup_id": GROUP, "status": status}, THE_GROUP)
    assert (batch.is_terminal, batch.total, batch.ended) == (is_terminal, total, ended)


@pytest.mark.parametrize("data", [None, [], {}, {"taskgroup_id": "tgrp_2"}])
def test_an_answer_about_another_group_is_refused(data: Any) -> None:
    with pytest.raises(Unavailable):
        PARALLEL.read_batch(data, THE_GROUP)


def test_an_input_is_an_object_also_where_it_was_text() -> None:
    assert PARALLEL.read_input({"input": "who?", "processor": "x"}) == {"input": "who?"}
    assert PARALLEL.read_input({"input": {"a": 1}}) == {"a": 1}
    assert [*map(PARALLEL.read_input, ({}, [], {"input": 5}))] == [None] * 3


def test_there_is_no_call_for_what_parallel_does_not_do() -> None:
    assert not isinstance(PARALLEL, CancelsBatches | ListsBatches | CancelsRuns | UpdatesRuns)


def test_a_run_that_nobody_has_tells_whether_the_account_is_welcome() -> None:
    probe = PARALLEL.probe()
    assert (probe.method, probe.path) == ("GET", f"/v1/tasks/runs/trun_{'0' * 32}")
    assert probe.json is None
