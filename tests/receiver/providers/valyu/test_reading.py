"""Valyu's answers, read as leniently as identity allows: lies in them do no harm."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import Unavailable
from receiver.providers.model import Subject
from tests.receiver.conftest import BATCH, OTHER_BATCH, TASK
from tests.receiver.providers.valyu.test_provider import (
    LISTED,
    OF_BATCH,
    STAMP,
    THE_BATCH,
    THE_TASK,
    VALYU,
    page,
)


def test_a_listed_task_is_read_whole() -> None:
    (run,) = VALYU.read_page(page(LISTED), OF_BATCH).runs
    assert (run.run_id, run.task_id, run.batch_id) == (TASK, "sodium-ion", BATCH)
    assert (run.status, run.is_result, run.runner) == ("completed", True, "fast")
    assert (run.input, run.output) == ({"query": LISTED["query"]}, "# Report")
    assert (run.sources, run.cost) == (LISTED["sources"], 0.15625)
    assert run.completed_at == datetime.fromisoformat(STAMP)
    assert run.raw == LISTED


LIES: list[Any] = [None, True, -1, 0.5, float("inf"), 10**400, "", "x", "\ud800", [], [None], {}]
lies = st.sampled_from(LIES)
FIELDS = [*LISTED, "input", "mode", "research_mode", "model", "batch_id", "error", "batch_task_id"]


@given(st.dictionaries(st.sampled_from(sorted({*FIELDS} - {"deepresearch_id"})), lies))
def test_any_task_keeps_its_id_and_raw_answer(lied: dict[str, Any]) -> None:
    item = {**LISTED, **lied}
    runs = VALYU.read_page(page(item), OF_BATCH).runs
    if lied.get("batch_id") == "x":  # the one lie that names another batch
        assert runs == []
        return
    (run,) = runs
    assert (run.run_id, run.raw) == (TASK, item)
    assert run.status in {"queued", "running", "completed", "failed", "cancelled"}
    assert run.cost is None or isinstance(run.cost, float)
    assert run.error is None or isinstance(run.error, str)


@given(st.dictionaries(st.sampled_from(["counts", "status", "name", "mode", "created_at"]), lies))
def test_any_batch_can_be_read(lied: dict[str, Any]) -> None:
    batch = VALYU.read_batch({"batch_id": BATCH, **lied}, THE_BATCH)
    assert batch.batch_id == BATCH
    assert isinstance(batch.is_terminal, bool)
    assert all(isinstance(count, int) and count >= 0 for count in batch.counts.values())


GOES_ON = ["open", "processing", "queued", "pending", "running", "awaiting_input", "paused"]


@pytest.mark.parametrize(
    ("status", "is_terminal"),
    [(status, False) for status in GOES_ON]
    + [(status, True) for status in ("completed", "completed_with_errors", "failed", "canceled")]
    + [(status, True) for status in ("brand_new", None, 5)],
)
def test_batch_status_is_terminal_unless_it_goes_on(status: Any, is_terminal: bool) -> None:
    batch = VALYU.read_batch({"batch_id": BATCH, "status": status}, THE_BATCH)
    assert batch.is_terminal is is_terminal


@pytest.mark.parametrize("status", ["cancelled", "canceled"])
def test_cancelled_has_two_spellings(status: str) -> None:
    (run,) = VALYU.read_page(page({**LISTED, "status": status}), OF_BATCH).runs
    assert (run.status, run.sender_status, run.is_result) == ("cancelled", status, True)


@pytest.mark.parametrize("status", ["awaiting_input", "paused", "brand_new", None, 5])
def test_nonterminal_statuses_are_running(status: Any) -> None:
    (run,) = VALYU.read_page(page({**LISTED, "status": status}), OF_BATCH).runs
    assert (run.status, run.is_result) == ("running", False)


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (None, None),
        ("", None),
        (False, None),
        ({}, None),
        ("Task exceeded", "Task exceeded"),
        ({"message": "deep"}, "deep"),
        (["x"], "['x']"),
    ],
)
def test_an_error_is_text_or_none(error: Any, read: str | None) -> None:
    (run,) = VALYU.read_page(page({**LISTED, "error": error}), OF_BATCH).runs
    assert run.error == read


@pytest.mark.parametrize(("error", "is_whole"), [("Task exceeded", True), (None, False)])
def test_listed_failure_is_whole_with_its_error(error: Any, is_whole: bool) -> None:
    failed = {**LISTED, "status": "failed", "output": None, "error": error}
    (run,) = VALYU.read_page(page(failed), OF_BATCH).runs
    assert (run.is_whole, run.is_result) == (is_whole, is_whole)
    assert VALYU.read_run(failed, THE_TASK).is_whole


@pytest.mark.parametrize("status", ["awaiting_input", "paused"])
def test_waiting_run_has_its_question(status: str) -> None:
    waiting = {"deepresearch_id": TASK, "status": status}
    question = {"type": "plan_review", "interaction_id": "i"}
    assert VALYU.read_run({**waiting, "interaction": question}, THE_TASK).waits_for == question
    assert VALYU.read_run(waiting, THE_TASK).waits_for == {}
    answered = {**waiting, "status": "running", "interaction": question}
    assert VALYU.read_run(answered, THE_TASK).waits_for is None


def test_user_id_has_two_names() -> None:
    status = {"deepresearch_id": TASK, "status": "running", "batch_task_id": "mine"}
    assert VALYU.read_run(status, THE_TASK).task_id == "mine"
    assert VALYU.read_run({**status, "task_id": "listed"}, THE_TASK).task_id == "listed"


@pytest.mark.parametrize(
    ("status", "ours", "has_ended"),
    [
        ("completed", "completed", True),
        ("partial", "completed", True),
        ("failed", "failed", True),
        ("processing", "running", False),
        ("brand_new", "running", False),
    ],
)
def test_contents_job_ends_at_its_last_update(status: str, ours: str, has_ended: bool) -> None:
    job = {"job_id": "j", "status": status, "updated_at": STAMP, "results": [{"url": "u"}]}
    run = VALYU.read_run(job, Subject("contents", "j"))
    assert (run.status, run.sender_status) == (ours, status)
    assert run.completed_at == (datetime.fromisoformat(STAMP) if has_ended else None)
    assert (run.input, run.output, run.output_type) == ({"urls": ["u"]}, [{"url": "u"}], "contents")


@pytest.mark.parametrize("name", ["mode", "research_mode", "model"])
def test_a_mode_has_three_names(name: str) -> None:
    assert VALYU.read_run({**LISTED, name: "heavy"}, THE_TASK).runner == "heavy"


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"tasks": None},
        {"tasks": {}},
        {"batch_id": OTHER_BATCH, "tasks": []},
        {"batch_id": 5, "tasks": []},
    ],
)
def test_page_of_another_batch_is_refused(data: Any) -> None:
    with pytest.raises(Unavailable):
        VALYU.read_page(data, OF_BATCH)


@pytest.mark.parametrize(
    ("pagination", "cursor", "has_more"),
    [
        ({"has_more": True, "last_key": "k"}, "k", True),
        ({"has_more": False}, None, False),
        ({"has_more": "yes", "last_key": 5}, None, False),
        (None, None, False),
        ("x", None, False),
    ],
)
def test_pagination_has_cursor_and_more(pagination: Any, cursor: Any, has_more: bool) -> None:
    read = VALYU.read_page(page(LISTED, None, {}, pagination=pagination), OF_BATCH)
    assert (len(read.runs), read.cursor, read.has_more) == (1, cursor, has_more)


def test_listed_task_of_another_batch_is_dropped() -> None:
    mine = {**LISTED, "deepresearch_id": "mine", "batch_id": BATCH}
    other = {**LISTED, "deepresearch_id": "other", "batch_id": OTHER_BATCH}
    unsaid = {**LISTED, "deepresearch_id": "unsaid", "batch_id": 5}
    runs = VALYU.read_page(page(mine, other, unsaid), OF_BATCH).runs
    assert [(run.run_id, run.batch_id) for run in runs] == [("mine", BATCH), ("unsaid", BATCH)]


def test_page_request_has_cursor_and_size() -> None:
    def params(cursor: str | None, size: int | None) -> Any:
        return VALYU.list_runs(THE_BATCH, cursor=cursor, size=size).params

    assert params(None, 5) == {"limit": "5", "include_output": "true"}
    assert params("k", 5) == {"limit": "5", "include_output": "true", "last_key": "k"}
    assert params(None, None) == {"include_output": "true"}


COUNTS = {"total": 3, "queued": 0, "running": 0, "completed": 1, "failed": 1, "cancelled": 1}


@pytest.mark.parametrize("wrapped", [False, True])
def test_batch_may_be_wrapped(wrapped: bool) -> None:
    data: Any = {"batch_id": BATCH, "status": "completed_with_errors", "counts": COUNTS}
    batch = VALYU.read_batch({"batch": data} if wrapped else data, THE_BATCH)
    assert (batch.is_terminal, batch.total, batch.ended) == (True, 3, 3)


@pytest.mark.parametrize("data", [None, [], {}, {"batch_id": OTHER_BATCH}, {"batch": 5}])
def test_answer_about_another_batch_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable):
        VALYU.read_batch(data, THE_BATCH)


def test_counts_that_are_none_say_nothing() -> None:
    batch = VALYU.read_batch(
        {"batch_id": BATCH, "counts": {"total": -1, "completed": "x"}}, THE_BATCH
    )
    assert (batch.total, batch.ended, batch.counts) == (None, None, {})


@pytest.mark.parametrize("missing", ["completed", "failed", "cancelled"])
def test_ended_is_unknown_without_every_count(missing: str) -> None:
    counts = {name: count for name, count in COUNTS.items() if name != missing}
    batch = VALYU.read_batch({"batch_id": BATCH, "counts": counts}, THE_BATCH)
    assert (batch.total, batch.ended) == (3, None)


def test_counts_may_be_text() -> None:
    counts = {name: str(count) for name, count in COUNTS.items()}
    batch = VALYU.read_batch({"batch_id": BATCH, "counts": counts}, THE_BATCH)
    assert (batch.total, batch.ended, batch.counts) == (3, 3, COUNTS)


@pytest.mark.parametrize("wrapped", [False, True])
def test_batch_list_may_be_wrapped(wrapped: bool) -> None:
    listed: Any = [{"batch_id": BATCH, "webhook_url": "https://a.test"}, {}, None]
    batches = VALYU.read_batches({"batches": listed} if wrapped else listed)
    assert [(batch.batch_id, batch.webhook_url) for batch in batches] == [(BATCH, "https://a.test")]


@pytest.mark.parametrize("data", [None, [], {}, {"deepresearch_id": "another"}])
def test_answer_about_another_run_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable):
        VALYU.read_run(data, THE_TASK)


@pytest.mark.parametrize("output", [{}, {"output": None}])
def test_completed_task_without_output_is_no_result(output: dict[str, None]) -> None:
    run = VALYU.read_run({"deepresearch_id": TASK, "status": "completed", **output}, THE_TASK)
    assert (run.status, run.has_output, run.is_result) == ("completed", False, False)


@pytest.mark.parametrize("output", ["", {}, [], 0, False])
def test_an_empty_output_is_one(output: Any) -> None:
    run = VALYU.read_run(
        {"deepresearch_id": TASK, "status": "completed", "output": output}, THE_TASK
    )
    assert (run.output, run.is_result) == (output, True)
