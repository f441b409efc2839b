"""Valyu's single tasks: every option of the create call, and what is refused before it."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import Unavailable
from receiver.providers.model import Request, Subject
from receiver.providers.valyu.limits import check
from receiver.providers.valyu.provider import Valyu
from receiver.providers.valyu.tasks import FIELDS

TASK = Subject("task", "3f0c/1")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
SCHEMA = {"type": "object", "properties": {"price": {"type": "number"}}}
FILE = {"data": "data:text/plain;base64,aGk=", "filename": "a.txt", "mediaType": "text/plain"}


def body(**options: Any) -> Any:
    """The body that is sent for a task with a query and these options."""
    new = Valyu().new_run({"query": "q", **options})
    return Valyu().create_run(new, webhook_url="https://us.test/w").json


def test_query_alone_is_a_standard_report() -> None:
    request = Valyu().create_run(Valyu().new_run({"query": "q"}), webhook_url="https://us.test/w")
    assert (request.method, request.path) == ("POST", "/deepresearch/tasks")
    assert request.json == {
        "query": "q",
        "mode": "standard",
        "output_formats": ["markdown"],
        "webhook_url": "https://us.test/w",
    }


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"runner": "instant"}, {"mode": "instant"}),
        ({"format": ["markdown", "pdf"]}, {"output_formats": ["markdown", "pdf"]}),
        ({"output_schema": SCHEMA}, {"output_formats": [SCHEMA]}),
        ({"format": ["toon"], "output_schema": SCHEMA}, {"output_formats": ["toon", SCHEMA]}),
        ({"strategy": "s"}, {"research_strategy": "s"}),
        ({"report_format": "r"}, {"report_format": "r"}),
        ({"search": {"search_type": "web"}}, {"search": {"search_type": "web"}}),
        ({"url": ["https://a.test"]}, {"urls": ["https://a.test"]}),
        ({"file": [FILE]}, {"files": [FILE]}),
        (
            {"mcp_servers": [{"url": "https://m.test"}]},
            {"mcp_servers": [{"url": "https://m.test"}]},
        ),
        ({"tools": {"charts": True}}, {"tools": {"charts": True}}),
        ({"previous_report": ["id"]}, {"previous_reports": ["id"]}),
        ({"alert_email": "a@b.test"}, {"alert_email": "a@b.test"}),
        ({"brand_collection": "b"}, {"brand_collection_id": "b"}),
        ({"metadata": {"team": "x"}}, {"metadata": {"team": "x"}}),
        ({"hitl": ["plan_review"]}, {"hitl": {"plan_review": True}}),
        ({"set": {"public": True}}, {"public": True}),
    ],
)
def test_each_option_has_its_place(options: dict[str, Any], sent: dict[str, Any]) -> None:
    assert body(**options).items() >= sent.items()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("xlsx", {"type": "xlsx", "description": "The results of this research"}),
        ("XLSX: Table of vendors", {"type": "xlsx", "description": "Table of vendors"}),
        ("A table of vendors", "A table of vendors"),
        ("Vendors: a table", "Vendors: a table"),
        (
            '{"type": "pptx", "description": "Talk", "slides": 3}',
            {"type": "pptx", "description": "Talk", "slides": 3},
        ),
    ],
)
def test_deliverable_is_type_sentence_or_json(given: str, sent: Any) -> None:
    assert body(deliverable=[given])["deliverables"] == [sent]


def test_hitl_all_sets_every_checkpoint() -> None:
    new = Valyu().new_run({"query": "q", "hitl": ["all"]})
    assert (len(new.body["hitl"]), new.may_ask) == (4, True)
    assert not Valyu().new_run({"query": "q"}).may_ask


def test_workflow_keeps_its_own_defaults() -> None:
    given = {"workflow": "slug", "workflow_params": {"a": 1}, "workflow_version": 2}
    new = Valyu().new_run(given)
    assert new.body == {"workflow_id": "slug", "workflow_params": {"a": 1}, "workflow_version": 2}


def test_stored_input_has_no_file_data_or_credentials() -> None:
    servers = [{"url": "https://m.test", "auth": {"token": "secret"}}]
    given = {"query": "q", "file": [FILE], "mcp_servers": servers, "alert_email": "a@b.test"}
    new = Valyu().new_run({**given, "runner": "fast", "metadata": {"team": "x"}})
    assert new.input == {"query": "q", "files": ["a.txt"], "metadata": {"team": "x"}}
    assert (new.runner, "secret" in repr(new)) == ("fast", False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"query": " "}, "the query is missing or empty"),
        ({"query": "", "url": [""], "tools": {"charts": "yes"}}, "the query is missing or empty"),
        ({"query": 5}, "`query` must be text"),
        ({"query": "q" * 25_001}, "25001 characters; 25000 are allowed"),
        ({"runner": "turbo"}, "'turbo' is not one of instant, fast"),
        ({"format": ["html"]}, "'html' is not one of markdown"),
        ({"format": ["markdown"], "output_schema": SCHEMA}, "cannot be mixed"),
        ({"format": ["toon"]}, "toon needs a JSON schema"),
        ({"output_schema": SCHEMA, "set": {"output_formats": [{}]}}, "given twice"),
        ({"set": {"output_formats": [{}, {}]}}, "more than one JSON schema"),
        ({"strategy": "s" * 8_000, "report_format": "r" * 7_001}, "15001 characters together"),
        ({"url": ["https://a.test"] * 11}, "11 urls are given; 10 are allowed"),
        ({"url": [""]}, "each of the urls must be text"),
        ({"file": [FILE] * 11}, "11 files are given"),
        ({"file": [{**FILE, "context": "c" * 50_001}]}, "the context of a.txt"),
        ({"file": [{**FILE, "context": "c" * 40_000}] * 3}, "120000 characters together"),
        ({"set": {"files": [{}]}}, "must have a filename"),
        ({"set": {"files": [{**FILE, "context": 5}]}}, "the context of a file must be text"),
        ({"deliverable": ["xlsx"] * 11}, "11 deliverables are given"),
        ({"deliverable": ["xslx"]}, "'xslx' is not one of csv"),
        ({"deliverable": ["xslx:Table of vendors"]}, "is not one of csv"),
        ({"deliverable": ["{"]}, "is no JSON"),
        ({"deliverable": ['{"type": "gif"}']}, "must have a type"),
        ({"deliverable": ['{"type": "pdf"}']}, "must have a description"),
        ({"deliverable": ['{"type": "pdf", "description": " "}']}, "must have a description"),
        ({"deliverable": ['{"type": "gif", "description": 5}']}, "must have a type"),
        ({"set": {"deliverables": [5]}}, "must have a type"),
        ({"deliverable": ["pdf:" + "d" * 501]}, "more than 500 characters"),
        ({"deliverable": ["d " * 1_001]}, "more than 2000 characters"),
        ({"mcp_servers": [{"url": "https://m.test"}] * 6}, "6 mcp_servers"),
        ({"mcp_servers": [{}]}, "a JSON object with a url"),
        ({"mcp_servers": {}}, "`mcp_servers` must be a JSON list"),
        ({"tools": {"charts": "yes"}}, "the tool 'charts'"),
        ({"previous_report": ["a"] * 4}, "4 previous_reports"),
        ({"alert_email": "nobody"}, "an address or a JSON object"),
        ({"alert_email": {"custom_url": "x"}}, "must have an email"),
        ({"alert_email": {"email": "a@b.test", "custom_url": "x"}}, "must contain {id}"),
        ({"hitl": ["review"]}, "'review' is not one of planning_questions"),
        ({"hitl": ["all"], "runner": "instant"}, "instant asks nobody"),
        ({"set": {"hitl": {"plan_review": 1}}}, "must be true or false"),
        ({"workflow": "slug"}, "a workflow supplies `query` itself"),
        ({"set": {"workflow_id": "w"}, "strategy": "s"}, "a workflow supplies `query` itself"),
        ({"workflow_params": {}}, "`workflow_params` needs a workflow"),
        ({"workflow_version": 1}, "`workflow_version` needs a workflow"),
        ({"set": {"workflow_version": True}}, "`workflow_version` must be a whole number"),
        ({"strategy": 5}, "`research_strategy` must be text"),
        ({"set": {"metadata": []}}, "`metadata` must be a JSON object"),
        ({"set": {"webhook_url": "https://x.test"}}, "is set by resultsink"),
        ({"search": {"included_sources": ["a"], "excluded_sources": ["b"]}}, "keep one"),
        ({"search": {"included_sources": ["a"] * 21}}, "more than 20 entries"),
        ({"search": {"included_sources": "web"}}, "`included_sources` of the search must be a"),
        ({"search": {"excluded_sources": {}}}, "`excluded_sources` of the search must be a"),
        ({"search": {"excluded_sources": ["a"] * 21}}, "`excluded_sources` of the search has"),
        ({"search": None}, "`search` must be a JSON object"),
        ({"search": {"end_date": "2026-01-01T10:00", "historical_cache": 1}}, "needs historical"),
        ({"search": {"start_date": "2026-01-01T10:00"}}, "needs historical_cache"),
        ({"input": "text"}, "take no --input"),
    ],
)
def test_body_beyond_the_limits_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        body(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"query": "q" * 25_000},
        {"strategy": "s" * 8_000, "report_format": "r" * 7_000},
        {"url": ["https://a.test"] * 10},
        {"file": [{**FILE, "context": "c" * 50_000}] * 2},
        {"file": [FILE] * 10},
        {"file": [{**FILE, "context": None}]},
        {"deliverable": ["d" * 1_000 + " " + "d" * 999] * 10},
        {"deliverable": ["pdf:" + "d" * 500]},
        {"mcp_servers": [{"url": "https://m.test"}] * 5},
        {"tools": {"charts": False, "code": {}}},
        {"previous_report": ["a"] * 3},
        {"alert_email": {"email": "a@b.test", "custom_url": "https://x.test/{id}"}},
        {"search": {"included_sources": ["a"] * 20, "excluded_sources": []}},
        {"search": {"start_date": "2026-01-31", "end_date": "2026-02-28"}},
        {"set": {"hitl": {"plan_review": False}}, "runner": "instant"},
        {"set": {"public": 5, "alert_email": None}},
        {"hitl": ["plan_review", "source_review"], "runner": "max"},
    ],
)
def test_body_at_the_limits_is_accepted(options: dict[str, Any]) -> None:
    body(**options)


@given(st.sampled_from([*FIELDS.values(), "output_formats", "deliverables", "hitl"]), values)
def test_any_value_passes_or_raises_one_sentence(name: str, value: Any) -> None:
    refusal = None
    try:
        check({"query": "q", name: value})
    except ValueError as error:
        refusal = error
    assert refusal is None or (type(refusal) is ValueError and str(refusal))


def test_first_field_s_refusal_wins() -> None:
    with pytest.raises(ValueError, match="`mode` must be text"):
        check({"hitl": 5, "mode": 5, "query": "q"})


def test_timed_dates_pass_with_the_historical_cache() -> None:
    search = {"start_date": "2026-01-01T10:00", "historical_cache": True}
    assert body(search=search)["search"] == search


def test_created_task_has_id_and_secret() -> None:
    made = Valyu().read_created_run({"deepresearch_id": "t1", "webhook_secret": "s"})
    assert (made.id, made.secret) == ("t1", "s")
    with pytest.raises(Unavailable):
        Valyu().read_created_run({"status": "queued"})


def test_steering_calls_use_the_task_s_path() -> None:
    path = "/deepresearch/tasks/3f0c%2F1"
    assert Valyu().update_run(TASK, "more") == Request(
        "POST", f"{path}/update", json={"instruction": "more"}
    )
    assert Valyu().cancel_run(TASK) == Request("POST", f"{path}/cancel", json={})
    assert Valyu().respond(TASK, "int_1", {"approved": True}) == Request(
        "POST",
        f"{path}/respond",
        json={"interaction_id": "int_1", "response": {"approved": True}},
    )


def test_known_questions_have_example_answers() -> None:
    assert Valyu().example({"type": "plan_review"}) == {"approved": True}
    assert Valyu().example({"type": "something new"}) is None
