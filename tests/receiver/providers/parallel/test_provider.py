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


def announced(body: Any) -> Announcement | None:
    return PARALLEL.identify(body if isinstance(body, bytes) else json.dumps(body).encode())


def streamed(item: Any) -> FetchedRun | None:
    return PARALLEL.read_streamed(item, LISTED, defaults={}).run


# --- webhooks -----------------------------------------------------------------------------------


def test_event_names_run_group_and_status() -> None:
    assert announced(EVENT) == Announcement("run", RUN, GROUP, "completed", None, is_end=True)


def test_an_older_event_names_less() -> None:
    old = {"type": "task_run.status", "data": {"run_id": RUN, "status": "failed"}}
    assert announced(old) == Announcement("run", RUN, None, "failed")
    by_sdk = {"data": {"run_id": RUN, "status": "failed", "task_group_id": GROUP}}
    assert announced(by_sdk) == Announcement("run", RUN, GROUP, "failed")


@pytest.mark.parametrize(
    ("status", "is_end"),
    [(name, True) for name in ("completed", "failed", "cancelled", "brand_new", None)]
    + [(name, False) for name in ("queued", "running", "action_required", "cancelling")],
)
def test_only_unfinished_statuses_are_no_end(status: Any, is_end: bool) -> None:
    found = announced({**EVENT, "data": {**TASK_RUN, "status": status}})
    assert found is not None
    assert found.is_end is is_end


@pytest.mark.parametrize(
    ("kind", "data"),
    [("findall.run.completed", {"findall_id": "f1"}), ("monitor.event.detected", {"x": 1})],
)
def test_other_events_are_named_and_ignored(kind: str, data: Any) -> None:
    found = announced({"type": kind, "data": data})
    assert found is not None
    assert (found.kind, found.is_end) == (kind.partition(".")[0], False)
    assert found.kind not in PARALLEL.kinds


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"data": 5}', b'{"data": {"run_id": "a b"}}', b'{"data": {}}'),
        *(b'{"data": {"run_id": "a", "run_id": "b"}}', b'{"data": {"run_id": "a"}, "data": {}}'),
    ],
)
def test_event_without_certain_run_is_unreadable(body: bytes) -> None:
    assert announced(body) is None


@given(st.binary() | st.dictionaries(st.sampled_from([*EVENT]), st.text() | st.none()))
def test_any_body_is_read_or_unreadable(body: Any) -> None:
    found = announced(body)
    assert found is None or found.resource.isascii()


def test_only_failed_runs_are_embedded() -> None:
    def embedded(data: Any, run_id: str = RUN) -> FetchedRun | None:
        return PARALLEL.read_embedded(json.dumps({**EVENT, "data": data}).encode(), run_id)

    run = embedded(FAILED)
    assert run is not None
    assert (run.status, run.error) == ("failed", "Task failed")
    assert [embedded(TASK_RUN), embedded(FAILED, OTHER), embedded(5)] == [None] * 3
    assert PARALLEL.read_embedded(b"no", RUN) is None


# --- creating -----------------------------------------------------------------------------------


def test_input_column_makes_the_others_metadata() -> None:
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
        ({"input": "x", "metadata": {"note": None}}, "must be text or a number"),
        ({"input": "x", "id": "y" * 513}, "more than 512 characters"),
    ],
)
def test_bad_row_is_refused(row: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        PARALLEL.new_task(row)


@pytest.mark.parametrize(
    "row",
    [
        {"input": "x" * MAX_INPUT},
        {"a": "x" * (MAX_INPUT - 1), "b": "y"},
        {"input": "x", "a_name_of_16_cha": "y" * 512, "b": 1.5, "c": True},
    ],
)
def test_row_at_the_limits_is_accepted(row: dict[str, Any]) -> None:
    PARALLEL.new_task(row)
    PARALLEL.check(Plan(runner="core", name="n" * 512), [])


@pytest.mark.parametrize(
    ("plan", "hint"),
    [
        (Plan(), "the processor is missing: give --processor"),
        (Plan(runner="core", prompt="p"), "no stored tasks"),
        (Plan(runner="core", task_id="t"), "no stored tasks"),
        (Plan(runner="core", name="n" * 513), "more than 512 characters"),
    ],
)
def test_impossible_plan_is_refused(plan: Plan, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        PARALLEL.check(plan, [PARALLEL.new_task({"input": "x"})])
    PARALLEL.check(Plan(), [PARALLEL.new_task({"input": "x", "processor": "lite"})])


def test_group_body_has_only_its_name() -> None:
    made = PARALLEL.create_batch(Plan(name="ceo-list"), webhook_url="https://a.test")
    assert (made.method, made.path) == ("POST", "/v1/tasks/groups")
    assert made.json == {"metadata": {"name": "ceo-list"}}
    assert PARALLEL.create_batch(Plan(), webhook_url=None).json == {}
    assert PARALLEL.read_created({"taskgroup_id": GROUP}).id == GROUP
    data: Any
    for data in ({}, [], {"taskgroup_id": "a b"}):
        with pytest.raises(Unavailable):
            PARALLEL.read_created(data)


def test_added_runs_have_processor_webhook_and_schema() -> None:
    tasks = [PARALLEL.new_task({"q": "1"}), PARALLEL.new_task({"q": "2", "processor": "pro"})]
    schema = {"type": "object"}
    defaults = PARALLEL.defaults(Plan(runner="core", schema=schema), tasks)
    callback = Callback("https://a.test/webhooks/parallel", "")
    made = PARALLEL.add_tasks(THE_GROUP, tasks, defaults=defaults, callback=callback)
    assert made.path == f"/v1/tasks/groups/{GROUP}/runs"
    assert made.params == {"refresh_status": "false"}
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


def test_added_runs_keep_the_request_order() -> None:
    added = PARALLEL.read_added({"run_ids": [RUN, OTHER], "run_cursor": ""})
    assert [(run.run_id, run.status) for run in added] == [(RUN, "queued"), (OTHER, "queued")]
    assert [*map(PARALLEL.read_added, ({}, [], {"run_ids": 5}))] == [[]] * 3


def test_result_call_waits_for_the_configured_seconds() -> None:
    result, itself = Parallel(result_seconds=25).run(THE_RUN)
    assert (result.path, result.params) == (f"/v1/tasks/runs/{RUN}/result", {"timeout": "25"})
    assert itself.path == f"/v1/tasks/runs/{RUN}"
    assert (result.waits, itself.waits) == (True, False)
    for value in (0, 601, "5"):
        with pytest.raises(ValueError, match="from 1 to 600"):
            Parallel(result_seconds=value)  # type: ignore[arg-type]


# --- reading ------------------------------------------------------------------------------------


def test_result_has_output_and_citations() -> None:
    run = PARALLEL.read_run({"run": TASK_RUN, "output": OUTPUT}, THE_RUN)
    assert (run.run_id, run.batch_id, run.task_id, run.runner) == (RUN, GROUP, "acme", "core")
    assert (run.status, run.is_result, run.error) == ("completed", True, None)
    assert (run.output, run.output_type) == ({"ceo": 'Jane "JD" Doe'}, "json")
    assert run.sources == BASIS
    assert run.completed_at == datetime.fromisoformat(TASK_RUN["modified_at"])
    assert run.raw == {"run": TASK_RUN, "output": OUTPUT}


def test_run_without_output_is_a_result_when_failed() -> None:
    assert not PARALLEL.read_run(TASK_RUN, THE_RUN).is_result
    failed = PARALLEL.read_run(FAILED, THE_RUN)
    assert (failed.is_result, failed.error) == (True, "Task failed")


@pytest.mark.parametrize("status", ["queued", "running", "action_required", "cancelling", "new"])
def test_unfinished_statuses_are_running_even_when_inactive(status: str) -> None:
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
def test_answer_about_another_run_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable):
        PARALLEL.read_run(data, THE_RUN)


def test_state_event_has_run_input_output_cursor() -> None:
    found = PARALLEL.read_streamed(STATE, LISTED, defaults={})
    assert (found.cursor, found.run is not None) == ("1", True)
    run = streamed(STATE)
    assert run is not None
    assert (run.input, run.output) == ({"company": "Acme, Inc."}, OUTPUT["content"])


def test_streamed_run_gets_the_listed_group() -> None:
    alone = {name: value for name, value in TASK_RUN.items() if name != "taskgroup_id"}
    run = streamed({**STATE, "run": alone})
    assert run is not None
    assert run.batch_id == GROUP
    assert streamed({**STATE, "run": {**TASK_RUN, "taskgroup_id": "tgrp_2"}}) is None


def test_error_event_raises_unavailable() -> None:
    with pytest.raises(Unavailable, match="why"):
        streamed({"type": "error", "error": {"message": "why"}})


@pytest.mark.parametrize("item", [[], 5, None])
def test_unreadable_event_has_no_run(item: Any) -> None:
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
        # counts that do not add up are ignored; then only the sender's word counts
        ({"completed": 2}, 3, False, True, None),
        ({"completed": 2}, 3, True, False, None),
        ({"completed": 2}, None, False, False, None),
        ({}, 2, False, True, None),
        ({"completed": -1, "failed": "x"}, 1, False, True, None),
    ],
)
def test_group_ends_when_inactive_and_counts_agree(
    counts: Any, total: Any, is_active: Any, is_terminal: bool, ended: int | None
) -> None:
    status = {"num_task_runs": total, "task_run_status_counts": counts, "is_active": is_active}
    batch = PARALLEL.read_batch({"taskgroup_id": GROUP, "status": status}, THE_GROUP)
    assert (batch.is_terminal, batch.total, batch.ended) == (is_terminal, total, ended)


@pytest.mark.parametrize("data", [None, [], {}, {"taskgroup_id": "tgrp_2"}])
def test_answer_about_another_group_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable):
        PARALLEL.read_batch(data, THE_GROUP)


def test_text_input_becomes_an_object() -> None:
    assert PARALLEL.read_input({"input": "who?", "processor": "x"}) == {"input": "who?"}
    assert PARALLEL.read_input({"input": {"a": 1}}) == {"a": 1}
    assert [*map(PARALLEL.read_input, ({}, [], {"input": 5}))] == [None] * 3


def test_provider_has_no_capability_parallel_lacks() -> None:
    assert not isinstance(PARALLEL, CancelsBatches | ListsBatches | CancelsRuns | UpdatesRuns)


def test_probe_asks_for_an_unknown_run() -> None:
    probe = PARALLEL.probe()
    assert (probe.method, probe.path) == ("GET", f"/v1/tasks/runs/trun_{'0' * 32}")
    assert probe.json is None
