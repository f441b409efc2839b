"""Parallel v0: stored tasks, batches with callbacks of their runs, and exports in both formats."""

import json
from typing import Any

import pytest

from receiver.errors import Refused, Unavailable, UsageError
from receiver.providers.capabilities.require import (
    require_additions,
    require_new_batches,
    require_single_runs,
)
from receiver.providers.capabilities.runs import EmbedsResults
from receiver.providers.model import Announcement, Callback, NewTask, Plan, Subject
from receiver.providers.parallel_v0.provider import ParallelV0
from receiver.sender_api.stream_parsers import CsvRows
from storage import FetchedBatch, FetchedRun

V0, BY_ROWS = ParallelV0(), ParallelV0(export="csv")
TASK = "0d6f3c1e-5b7a-4c2d-9e8f-1a2b3c4d5e6f"
BATCH = "7c1b9a80-2f4e-4d6c-8b0a-9f8e7d6c5b4a"
RUN, OTHER = "11111111-2222-4333-8444-555555555501", "11111111-2222-4333-8444-555555555502"
THE_BATCH, THE_RUN = Subject("batch", BATCH, TASK), Subject("run", RUN, TASK)
LISTED = FetchedBatch(BATCH, "inactive", True)

# The sample exchange of the fact sheet (contracts/parallel.md, 7.1).
OBJECT: dict[str, Any] = {
    "task_id": TASK,
    "batch_run_id": BATCH,
    "run_id": RUN,
    "status": "complete",
    "runner": "neon",
    "input": {"arguments": {"company": "Acme, Inc."}},
    "output": {"city": "Springfield", "note": 'also known as "Spring"'},
}
CSV = (
    "task_id,batch_run_id,run_id,status,runner,company,city,note\r\n"
    f'{TASK},{BATCH},{RUN},complete,neon,"Acme, Inc.",Springfield,"also known as ""Spring"""\r\n'
)


def tasks(*rows: dict[str, Any]) -> list[NewTask]:
    return [V0.new_task(row) for row in rows]


def rows(text: str, **defaults: Any) -> list[FetchedRun]:
    """The runs of a CSV export."""
    parser = CsvRows()
    pieces = [*parser.feed(text.encode()), *parser.end()]
    items = [item for piece in pieces for item in parser.parse(piece)]
    read = [BY_ROWS.read_streamed(item, LISTED, defaults=defaults).run for item in items]
    return [run for run in read if run is not None]


# --- callbacks ----------------------------------------------------------------------------------


def test_callback_names_its_run_without_a_result() -> None:
    found = V0.identify(json.dumps(OBJECT).encode())
    assert found == Announcement("run", RUN, BATCH, "complete", is_end=True)
    assert not isinstance(V0, EmbedsResults)


@pytest.mark.parametrize(
    ("status", "is_end"),
    [(name, True) for name in ("complete", "completed", "failed", "cancelled", "new", None)]
    + [(name, False) for name in ("queued", "running", "awaiting_tool_calls", "cancelling")],
)
def test_only_unfinished_statuses_are_no_end(status: Any, is_end: bool) -> None:
    found = V0.identify(json.dumps({**OBJECT, "status": status}).encode())
    assert found is not None
    assert found.is_end is is_end


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"run_id": 5}', b'{"run_id":"a","run_id":1}']
)
def test_body_without_certain_run_is_unreadable(body: bytes) -> None:
    assert V0.identify(body) is None


# --- creating -----------------------------------------------------------------------------------


def test_columns_are_arguments_except_the_runner() -> None:
    (task,) = tasks({"company": "Acme", "id": 7, "note": "", "runner": "argon"})
    assert task.body == {"arguments": {"company": "Acme", "id": 7}, "runner": "argon"}
    assert (task.task_id, task.input) == (None, {"company": "Acme", "id": 7})
    with pytest.raises(ValueError, match="no arguments"):
        V0.new_task({"runner": "neon", "company": ""})


@pytest.mark.parametrize(
    ("plan", "hint"),
    [
        (Plan(runner="neon"), "name the stored task with --task, or give the --prompt"),
        (Plan(runner="neon", task_id="t", prompt="p"), "name the stored task with --task, or"),
        (Plan(prompt="p"), "the runner is missing"),
        (Plan(runner="neon", prompt="of ${b}"), "the prompt names 'b', which is no column"),
        (Plan(runner="neon", task_id="t", schema={}), "has its own output schema"),
    ],
)
def test_impossible_plan_is_refused(plan: Plan, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        V0.check(plan, tasks({"a": "1"}))
    V0.check(Plan(task_id="t"), tasks({"a": "1", "runner": "neon"}))


def test_stored_task_has_prompt_and_argument_types() -> None:
    given = tasks({"a": "x", "n": 1, "m": "x"}, {"a": "y", "n": 2, "m": 5, "l": [1]})
    made = V0.create_stored_task(Plan(runner="neon", prompt="of ${a}"), given)
    assert (made.path, made.json["prompt"], made.json["processor"]) == (
        "/v0/tasks",
        "of ${a}",
        "neon",
    )
    types = {name: given["type"] for name, given in made.json["input_schema"]["properties"].items()}
    assert types == {"a": "string", "n": "integer", "m": "string", "l": "array"}
    assert made.json["input_schema"]["required"] == ["a", "n", "m"]


def test_one_call_submits_a_callback_per_run() -> None:
    given = tasks({"a": "1"}, {"a": "2", "runner": "argon"})
    callbacks = [Callback("https://a.test/1", "s" * 64), Callback("https://a.test/2", "t" * 64)]
    defaults = V0.defaults(Plan(runner="neon"), given)
    made = V0.submit_batch("t/1", given, defaults=defaults, callbacks=callbacks)
    assert (made.path, made.json["runner"]) == ("/v0/tasks/t%2F1/batches", "neon")
    first, second = made.json["task_run_requests"]
    assert (first["arguments"], "runner" in first) == ({"a": "1"}, False)
    assert (second["arguments"], second["runner"]) == ({"a": "2"}, "argon")
    for run, callback in zip((first, second), callbacks, strict=True):
        sent = run["callback_webhook"]
        assert (sent["url"], sent["secret"]) == (callback.url, callback.secret)
        assert sent["headers"]["Authorization"].startswith("Bearer ")
        assert callback.secret not in sent["headers"]["Authorization"]  # who logs it cannot sign


def test_batch_and_stored_task_ids_are_separate() -> None:
    answer = {"task_id": TASK, "batch_run_id": BATCH, "run_ids": [RUN, OTHER]}
    assert V0.read_submitted(answer) == BATCH
    assert V0.read_stored_task({"task_id": TASK}) == TASK
    assert [run.run_id for run in V0.read_added(answer)] == [RUN, OTHER]
    data: Any
    for data in ({}, [], {"task_id": 5, "batch_run_id": "a b"}):
        assert V0.read_added(data) == []
        with pytest.raises(Unavailable, match="no stored task"):
            V0.read_stored_task(data)
        with pytest.raises(Unavailable, match="no batch"):
            V0.read_submitted(data)
    with pytest.raises(Unavailable):  # a batch is never taken for its stored task
        V0.read_submitted({"task_id": TASK})


# --- reading ------------------------------------------------------------------------------------


def test_paths_name_the_stored_task() -> None:
    assert V0.batch(THE_BATCH).path == f"/v0/tasks/{TASK}/batches/{BATCH}"
    (single,) = V0.run(THE_RUN)
    assert single.path == f"/v0/tasks/{TASK}/runs/{RUN}"
    (other,) = ParallelV0(run_path="/v0/tasks/{task_id}/runs/{run_id}/result").run(THE_RUN)
    assert other.path == f"/v0/tasks/{TASK}/runs/{RUN}/result"
    for call in (V0.batch, V0.run):
        with pytest.raises(Refused, match="endpoint add --task"):
            call(Subject("run", "a"))


@pytest.mark.parametrize("format", ["json", "csv"])
def test_export_has_the_configured_format(format: Any) -> None:
    provider = ParallelV0(export=format)
    request = provider.stream_runs(THE_BATCH, cursor=None)
    assert request.path == f"/v0/tasks/{TASK}/batches/{BATCH}/export"
    assert request.params == {"format": format}
    assert provider.stream_format == {"json": "documents", "csv": "rows"}[format]


@pytest.mark.parametrize(
    ("status_map", "is_terminal", "ended"),
    [
        ({"running": [OTHER], "complete": [RUN]}, False, 1),
        ({"failed": [OTHER], "complete": [RUN]}, True, 2),
        ({"cancelled": [OTHER], "complete": [RUN]}, True, 2),
        ({"awaiting_tool_calls": [OTHER], "failed": [RUN]}, False, 1),
        ({"brand_new": [OTHER], "failed": [RUN]}, False, 1),
        ({"failed": [RUN, OTHER, 5, None], "odd": "x"}, True, 2),
        ({}, False, 0),
    ],
)
def test_status_map_counts_and_names_runs(status_map: Any, is_terminal: bool, ended: int) -> None:
    batch = V0.read_batch({"status_map": status_map}, THE_BATCH)
    assert (batch.is_terminal, batch.ended) == (is_terminal, ended)
    assert batch.total == len(batch.runs)
    assert all((run.batch_id, run.task_id) == (BATCH, TASK) for run in batch.runs)
    assert not any(run.is_result for run in batch.runs if run.status == "completed")


@pytest.mark.parametrize("data", [None, [], {}, {"status_map": [RUN]}])
def test_answer_without_status_map_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable):
        V0.read_batch(data, THE_BATCH)


def test_run_keeps_the_sender_s_status_word() -> None:
    run = V0.read_run(OBJECT, THE_RUN)
    assert (run.run_id, run.batch_id, run.task_id, run.runner) == (RUN, BATCH, TASK, "neon")
    assert (run.status, run.sender_status, run.is_result) == ("completed", "complete", True)
    assert (run.input, run.output) == ({"company": "Acme, Inc."}, OBJECT["output"])
    assert run.raw == OBJECT
    data: Any
    for data in (None, [], {}, {**OBJECT, "run_id": OTHER}):
        with pytest.raises(Unavailable):
            V0.read_run(data, THE_RUN)


def test_both_exports_bring_the_same_run() -> None:
    (by_row,) = rows(CSV, arguments=["company"])
    by_object = V0.read_streamed(OBJECT, LISTED, defaults={}).run
    assert by_object is not None
    for run in (by_row, by_object):
        assert (run.run_id, run.batch_id, run.status) == (RUN, BATCH, "completed")
        assert (run.input, run.output) == ({"company": "Acme, Inc."}, OBJECT["output"])
        assert run.is_result
    assert (by_object.is_input_whole, by_row.is_input_whole) == (True, False)  # CSV has no types


def test_csv_columns_after_the_arguments_are_outputs() -> None:
    text = f"task_id,batch_run_id,run_id,status,runner,city,city\n{TASK},{BATCH},r,complete,x,a,b\n"
    (known,) = rows(text, arguments=["city"])
    assert (known.input, known.output) == ({"city": "a"}, {"city": "b"})
    assert known.is_result


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_csv_row_of_a_failure_lacks_its_error(status: str) -> None:
    (run,) = rows(CSV.replace("complete", status), arguments=["company"])
    assert (run.status, run.is_whole, run.is_result) == (status, False, False)


@pytest.mark.parametrize(
    "path", ["v0/{task_id}/{run_id}", "/v0/{task_id}", "/v0/{task_id}/{run_id}/{run_id}", ""]
)
def test_run_path_needs_both_ids_once(path: str) -> None:
    with pytest.raises(ValueError, match="run_path must be a path with"):
        ParallelV0(run_path=path)


def test_empty_csv_arguments_are_left_out() -> None:
    head = "task_id,batch_run_id,run_id,status,runner,company,note,city\n"
    (run,) = rows(f"{head}{TASK},{BATCH},r,complete,x,Acme,,\n", arguments=["company", "note"])
    assert (run.input, run.output) == ({"company": "Acme"}, {"city": ""})


def test_csv_row_without_known_arguments_has_no_output() -> None:
    (run,) = rows(CSV)
    assert (run.run_id, run.status, run.input) == (RUN, "completed", None)
    assert (run.has_output, run.is_result) == (False, False)
    (known,) = rows(CSV, arguments=[])
    assert known.is_result  # it is known that there are none


def test_csv_cells_with_json_are_parsed() -> None:
    head = "task_id,batch_run_id,run_id,status,runner,a,b,c,d\n"
    (run,) = rows(f'{head}{TASK},{BATCH},r,complete,x,"[1, 2]","{{""k"": 1}}",{{half,007\n')
    assert run.output == {"a": [1, 2], "b": {"k": 1}, "c": "{half", "d": "007"}


def test_run_of_another_batch_is_dropped() -> None:
    other = {**OBJECT, "batch_run_id": "another"}
    assert V0.read_streamed(other, LISTED, defaults={}).run is None
    assert rows(CSV.replace(BATCH, "another")) == []
    assert V0.read_streamed({}, LISTED, defaults={}).run is None


# --- single runs --------------------------------------------------------------------------------


def test_single_runs_are_refused_with_an_alternative() -> None:
    with pytest.raises(UsageError, match="make a batch of one"):
        require_single_runs(V0)


def test_additions_are_refused() -> None:
    assert require_new_batches(V0) is V0
    with pytest.raises(UsageError, match="makes all runs of a batch together with it"):
        require_additions(V0)
