"""Valyu: what its webhooks name, what its answers mean, and that lies in them do no harm."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import (
    FetchError,
    Forbidden,
    Missing,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
    Unreadable,
)
from receiver.providers.model import Announcement, Answer, Plan, Subject
from receiver.providers.valyu.limits import MAX_QUERY
from receiver.providers.valyu.provider import Valyu
from storage import FetchedBatch
from tests.receiver.conftest import BATCH, OTHER_BATCH, TASK

NOW = 1791191172.0
VALYU = Valyu()
THE_BATCH, THE_TASK = Subject("batch", BATCH), Subject("task", TASK)
OF_BATCH = FetchedBatch(BATCH, "processing", False, runner="fast")
STAMP = "2026-10-05T09:06:12.480Z"

LISTED = {
    "deepresearch_id": TASK,
    "task_id": "sodium-ion",
    "query": "Which projects reached operation?",
    "status": "completed",
    "created_at": "2026-10-05T09:00:05.100Z",
    "completed_at": STAMP,
    "output_type": "markdown",
    "output": "# Report",
    "sources": [{"title": "Notice", "url": "https://utility.example/notice"}],
    "images": [],
    "cost": 0.15625,
}


def announced(body: Any) -> Announcement | None:
    return VALYU.identify(body if isinstance(body, bytes) else json.dumps(body).encode())


def answer(status: int, data: Any = None, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): each for name, each in headers.items()}, data)


def page(*tasks: Any, **more: Any) -> dict[str, Any]:
    return {"batch_id": BATCH, "tasks": list(tasks), "pagination": {"count": 1}, **more}


# Webhooks.

BATCH_DONE = {"batch_id": BATCH, "status": "completed_with_errors", "completed_at": STAMP}
TASK_DONE = {"deepresearch_id": TASK, "status": "completed"}


@pytest.mark.parametrize("wrapper", [None, "data", "batch", "task", "result", "payload"])
def test_batch_id_is_flat_or_wrapped(wrapper: str | None) -> None:
    found = announced({"type": "x", wrapper: BATCH_DONE} if wrapper else BATCH_DONE)
    assert found == Announcement("batch", BATCH, BATCH, "completed_with_errors", STAMP)
    assert found.key == f"batch:{BATCH}:completed_with_errors:{STAMP}"


def test_key_parts_cannot_be_moved() -> None:
    keys = {
        Announcement("batch", resource, status=status).key
        for resource, status in (("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a%253Ab", "c"))
    }
    assert len(keys) == 4


def test_task_id_beats_the_batch_id() -> None:
    assert announced(TASK_DONE) == Announcement("task", TASK, None, "completed")
    assert announced({**TASK_DONE, "batch_id": BATCH}) == Announcement(
        "task", TASK, BATCH, "completed"
    )


def test_job_id_beats_other_ids() -> None:
    job = {"job_id": "cj_0123456789abcdef", "status": "partial", "batch_id": BATCH}
    found = announced(job)
    assert found is not None
    assert (found.kind, found.resource) == ("contents", "cj_0123456789abcdef")


@pytest.mark.parametrize("where", ["metadata", "counts", "search_params", "output", "x"])
@pytest.mark.parametrize("fake", [{"batch_id": OTHER_BATCH}, {"deepresearch_id": TASK}])
def test_user_text_in_a_body_names_nothing(where: str, fake: dict[str, str]) -> None:
    found = announced({where: fake, **BATCH_DONE})
    assert found is not None
    assert (found.kind, found.resource) == ("batch", BATCH)
    assert announced({where: fake}) is None


def test_outer_object_beats_inner_ones() -> None:
    found = announced({"data": {"batch_id": OTHER_BATCH, "status": "completed"}, **BATCH_DONE})
    assert found is not None
    assert found.resource == BATCH


@pytest.mark.parametrize("status", [None, 5, "", "a b", "\ud800", "x" * 300])
def test_unreadable_status_gives_no_key(status: Any) -> None:
    found = announced({"batch_id": BATCH, "status": status})
    assert found is not None
    assert (found.status, found.key, found.is_end) == (None, None, True)


@pytest.mark.parametrize(
    ("status", "is_end"),
    [("completed", True), ("cancelled", True), ("brand_new", True)]
    + [(status, False) for status in ("open", "processing", "queued", "running", "paused")],
)
def test_only_unfinished_statuses_are_no_end(status: str, is_end: bool) -> None:
    found = announced({"batch_id": BATCH, "status": status})
    assert found is not None
    assert found.is_end is is_end


@given(
    st.binary()
    | st.dictionaries(
        st.sampled_from(["batch_id", "deepresearch_id", "job_id", "status", "data"]),
        st.none() | st.text() | st.integers() | st.dictionaries(st.just("batch_id"), st.text()),
    ).map(lambda body: json.dumps(body).encode())
)
def test_any_body_is_named_by_words_or_unreadable(body: bytes) -> None:
    found = announced(body)
    if found is not None:
        assert found.kind in {"batch", "task", "contents"}
        assert found.resource.isascii()
        assert found.resource.isprintable()


# Judging answers.


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("data", [{}, []])
def test_json_success_is_usable(status: int, data: Any) -> None:
    VALYU.judge(answer(status, data), now=NOW)


@pytest.mark.parametrize(
    ("status", "data", "kind"),
    [
        (200, None, Unreadable),
        (200, "text", Unreadable),
        (302, None, Unavailable),
        (304, None, Unavailable),
        (400, {"error": "x"}, Refused),
        (400, None, Unavailable),
        (401, {"error": "x"}, SourceRefused),
        (402, None, SourceRefused),
        (403, {}, Forbidden),
        (403, None, Unavailable),
        (404, {"error": "Task not found"}, Missing),
        (404, None, Missing),
        (408, {}, Unavailable),
        (409, {}, NotReady),
        (422, {}, Refused),
        (425, {}, NotReady),
        (429, {}, RateLimited),
        (429, None, RateLimited),
        (500, {"error": "x"}, Unavailable),
        (502, None, Unavailable),
        (503, {}, Unavailable),
    ],
)
def test_every_status_says_what_to_do(status: int, data: Any, kind: type[FetchError]) -> None:
    with pytest.raises(FetchError) as caught:
        VALYU.judge(answer(status, data), now=NOW)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"the sender answered {status}")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (answer(429, {}, retry_after="7"), 7.0),
        (answer(429, {"retry_after": 9}), 9.0),
        (answer(429, {"retry_after": 9}, retry_after="7"), 7.0),
        (answer(429, {}, retry_after=format_datetime(datetime.fromtimestamp(NOW + 30, UTC))), 30.0),
        (answer(503, None, retry_after="7"), 7.0),
        (answer(429, {"retry_after": "soon"}, retry_after="soon"), None),
        (answer(429, {"retry_after": 10**400}), None),
        (answer(429, None), None),
    ],
    ids=str,
)
def test_retry_after_is_in_header_or_body(said: Answer, seconds: float | None) -> None:
    with pytest.raises(FetchError) as caught:
        VALYU.judge(said, now=NOW)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"message": "2 errors", "error": "validation_failed"}, ": 2 errors"),
        ({"error": "Invalid API key"}, ": Invalid API key"),
        ({"error": {"code": 5}}, ": {'code': 5}"),
        ({}, ""),
        ([], ""),
        (None, ", which is no JSON"),
    ],
)
def test_errors_quote_the_sender(data: Any, words: str) -> None:
    with pytest.raises(FetchError) as caught:
        VALYU.judge(answer(401, data), now=NOW)
    assert str(caught.value) == f"the sender answered 401{words}"


# Creating.


def created(plan: Plan) -> Any:
    """The body of the call that creates a batch."""
    VALYU.check(plan, [])
    return VALYU.create_batch(plan, webhook_url="https://a.test/x").json


def test_batch_body_has_only_given_fields() -> None:
    assert created(Plan()) == {"mode": "standard", "webhook_url": "https://a.test/x"}
    schema = {"type": "object"}
    full = created(Plan(name="n", runner="max", schema=schema))
    assert (full["name"], full["mode"]) == ("n", "max")
    assert full["output_formats"] == [schema]
    with pytest.raises(ValueError, match="fast, standard, heavy, max"):
        created(Plan(runner="instant"))


@pytest.mark.parametrize("plan", [Plan(prompt="of $x"), Plan(task_id="t")])
def test_stored_tasks_are_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="no stored tasks"):
        created(plan)


@pytest.mark.parametrize(
    ("data", "batch_id", "secret"),
    [
        ({"batch_id": BATCH, "webhook_secret": "s"}, BATCH, "s"),
        ({"batch_id": BATCH, "webhook_secret": 5}, BATCH, None),
        ({"batch_id": BATCH}, BATCH, None),
    ],
)
def test_created_batch_may_lack_a_secret(data: Any, batch_id: str, secret: Any) -> None:
    made = VALYU.read_created(data)
    assert (made.id, made.secret) == (batch_id, secret)


@pytest.mark.parametrize("data", [{}, [], {"batch_id": None}, {"batch_id": "a b"}, {"batch_id": 5}])
def test_answer_without_batch_id_is_unavailable(data: Any) -> None:
    with pytest.raises(Unavailable):
        VALYU.read_created(data)


def test_unknown_columns_become_metadata() -> None:
    row = {"id": 7, "query": "q", "urls": "https://a https://b", "region": "EU", "note": ""}
    task = VALYU.new_task({**row, "metadata": {"row": 1}})
    assert task.task_id == "7"
    assert task.body == {
        "id": "7",
        "query": "q",
        "urls": ["https://a", "https://b"],
        "metadata": {"row": 1, "region": "EU"},
    }


def test_user_id_is_optional_and_has_two_names() -> None:
    assert VALYU.new_task({"task_id": "a", "query": "q"}).body["id"] == "a"
    zero = VALYU.new_task({"id": 0, "query": "q"})
    assert (zero.task_id, zero.body) == ("0", {"id": "0", "query": "q"})
    plain = VALYU.new_task({"query": "q", "id": ""})
    assert (plain.task_id, plain.body) == (None, {"query": "q"})


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({}, "`query` is missing"),
        ({"query": "  "}, "`query` is missing"),
        ({"query": 5}, "`query` is missing"),
        ({"query": "x" * (MAX_QUERY + 1)}, "25001 characters; 25000 are allowed"),
        ({"query": "q", "urls": 5}, "`urls` must be a JSON list"),
        ({"query": "q", "metadata": "x"}, "`metadata` must be a JSON object"),
        ({"query": "q", "research_strategy": 5}, "`research_strategy` must be text"),
        ({"query": "q", "report_format": ["x"]}, "`report_format` must be text"),
    ],
)
def test_bad_row_is_refused(row: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        VALYU.new_task(row)


def test_added_tasks_are_read_and_paths_quoted() -> None:
    added = VALYU.read_added(
        {"tasks": [{"task_id": "a", "deepresearch_id": TASK, "status": "queued"}, {}, None]}
    )
    assert [(run.task_id, run.run_id, run.status) for run in added] == [("a", TASK, "queued")]
    request = VALYU.add_tasks(Subject("batch", "a/../b?c"), [], defaults={}, callback=None)
    assert request.path == "/deepresearch/batches/a%2F..%2Fb%3Fc/tasks"
    cancel = VALYU.cancel_batch(Subject("batch", "a/b"))
    assert cancel.path == "/deepresearch/batches/a%2Fb/cancel"


@pytest.mark.parametrize("wrapper", [None, "data", "task"])
def test_embedded_result_is_read(wrapper: str | None) -> None:
    body = json.dumps({wrapper: LISTED} if wrapper else LISTED).encode()
    run = VALYU.read_embedded(body, TASK)
    assert run is not None
    assert run.output == "# Report"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{}",
        json.dumps({**LISTED, "status": "running"}).encode(),
        json.dumps({**LISTED, "output": None}).encode(),
    ],
    ids=len,
)
def test_body_without_result_embeds_none(body: bytes) -> None:
    assert VALYU.read_embedded(body, TASK) is None
    assert VALYU.read_embedded(json.dumps(LISTED).encode(), "another") is None


def test_the_key_travels_in_one_header() -> None:
    assert VALYU.headers("val_x") == {"x-api-key": "val_x"}
