"""resultsink task: create, show, answer, list, for people and for programs."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receiver.cli.task.options import attached
from receiver.sandbox import SandboxServer
from storage import Store
from tests.processes import until
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.conftest import SOON
from tests.receiver.working import a_source, ask, make_due, work_off

# No SQL is at stake: the verbs of the store are tested on both databases in tests/storage.
pytestmark = pytest.mark.one_database

running_sender, sender = working.running_sender, working.sender


@pytest.fixture(autouse=True)
def reachable(configured: Callable[..., None], sender: SandboxServer) -> None:
    """The sandbox is the sender."""
    configured(sources__valyu__base_url=sender.api_url)


def create(run: Run, *options: str, query: str = "q") -> str:
    """A task; returns its id."""
    ended = run("task", "create", "valyu", "--query", query, *options)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def bring_in(store: Store, sender: SandboxServer) -> None:
    """Let the receiver do its work."""
    make_due(store)
    asyncio.run(work_off(store, a_source(sender.api_url)))


# --- create -------------------------------------------------------------------------------------


def test_create_prints_the_id_alone(run: Run, store: Store, sender: SandboxServer) -> None:
    ended = run("task", "create", "valyu", "--query", "Grid storage", "--deliverable", "xlsx")
    (made,) = ask(sender, "GET", "/deepresearch/list")
    assert (ended.code, ended.out) == (0, f"{made['deepresearch_id']}\n")
    assert ended.err == f"next: resultsink task wait {made['deepresearch_id']}\n"


def test_all_options_reach_the_sender(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, sender: SandboxServer
) -> None:
    Path("notes.txt").write_text("hello")
    Path("search.json").write_text('{"search_type": "web"}')
    options = [
        *["--mode", "fast", "--format", "markdown", "--format", "pdf", "--strategy", "s"],
        *["--report-format", "r", "--deliverable", "csv:Prices", "--deliverable", "A short talk"],
        *["--file", "notes.txt", "--file-context", "notes.txt=What the board said"],
        *["--url", "https://a.test", "--search", "search.json", "--tools", '{"charts": true}'],
        *["--mcp-servers", '[{"url": "https://m.test"}]', "--previous-report", "t0"],
        *["--hitl", "plan_review", "--alert-email", "a@b.test", "--brand-collection", "b"],
        *["--metadata", "team=x", "--metadata", '{"row": 1}', "--set", "public=true"],
    ]
    run_id = create(run, *options)
    shown = json.loads(run("task", "show", run_id, "--json").out)
    assert shown["input"] == {
        "query": "q",
        "research_strategy": "s",
        "report_format": "r",
        "search": {"search_type": "web"},
        "urls": ["https://a.test"],
        "files": ["notes.txt"],
        "deliverables": [{"type": "csv", "description": "Prices"}, "A short talk"],
        "previous_reports": ["t0"],
        "brand_collection_id": "b",
        "metadata": {"team": "x", "row": 1},
        "public": True,
    }
    status = ask(sender, "GET", f"/deepresearch/tasks/{run_id}/status")
    assert (status["mode"], status["output_formats"]) == ("fast", ["markdown", "pdf"])
    assert (status["tools"], status["hitl_config"]["plan_review"]) == ({"charts": True}, True)


def test_file_becomes_a_data_url() -> None:
    Path("notes.txt").write_text("hello")
    Path("table.xlsx").write_bytes(b"PK")
    text, table = attached([Path("notes.txt"), Path("table.xlsx")], {"notes.txt": "c"})
    encoded = base64.b64encode(b"hello").decode()
    assert text["data"] == f"data:text/plain;base64,{encoded}"
    assert (text["filename"], text["mediaType"], text["context"]) == (
        "notes.txt",
        "text/plain",
        "c",
    )
    assert str(table["mediaType"]).endswith("spreadsheetml.sheet")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "The task was not created: the query is missing or empty"),
        (["--query", "q", "--mode", "turbo"], "the mode 'turbo' is not one of"),
        (["--query", "q", "--input", "x"], "Valyu's tasks take no --input"),
        (["--query", "q", "--format", "toon"], "toon needs a JSON schema"),
        (["--query", "q", "--file", "none.pdf"], "none.pdf cannot be read: No such file"),
        (["--query", "q", "--file", "empty.txt"], "The file empty.txt is empty"),
        (["--query", "q", "--file-context", "a=b"], "names none of the files"),
        (["--query", "q", "--file-context", "ab"], "write it as NAME=VALUE"),
        (["--query", "q", "--search", "none.json"], "none.json does not exist"),
        (["--query", "q", "--search", "{"], "--search is no JSON"),
        (["--query", "q", "--search", "[]"], "--search must be a JSON object"),
        (["--query", "q", "--search", "bytes.json"], "bytes.json, line 1: it is not UTF-8"),
        (["--query", "q", "--set", "public=yes"], "--set public is no JSON"),
        (["--query", "q", "--set", "public"], "write it as NAME=JSON"),
        (["--query", "q", "--set", "x=NaN"], "NaN is no JSON"),
        (["--query", "q", "--set", "x=1", "--set", "x=2"], "--set: 'x' is given twice"),
        (["--query", "q", "--set", 'x=[{"a": 1, "a": 1}]'], "--set x: 'a' is given twice"),
        (["--query", "q", "--metadata", "a=1", "--metadata", "a="], "--metadata: 'a' is given"),
        (["--query", "q", "--metadata", "a=1", "--metadata", '{"a": "2"}'], "'a' is given twice"),
        (["--query", "q", "--file", "a.txt", "--file", "./a.txt"], "a.txt' is given twice"),
        (["--query", "q", "--fail"], "--fail is for --wait"),
        (["--query", "q", "--workflow", "w"], "a workflow supplies `query` itself"),
    ],
)
def test_wrong_use_creates_nothing(
    run: Run, store: Store, sender: SandboxServer, options: list[str], said: str
) -> None:
    Path("empty.txt").touch()
    Path("a.txt").write_text("a")
    Path("bytes.json").write_bytes(b"\xff")
    ended = run("task", "create", "valyu", *options)
    assert ended.code == 2
    assert said in ended.sentence
    assert (store.endpoints.list_all(), sender.state()["calls"]) == ([], {})


def test_parallel_v0_has_no_single_runs(
    run: Run, store: Store, configure: Callable[..., None]
) -> None:
    configure(sources__legacy__provider="parallel-v0", sources__legacy__api_key="k")
    ended = run("task", "create", "legacy", "--input", "x")
    assert (ended.code, "make a batch of one with `batch create`" in ended.sentence) == (2, True)


def test_parallel_run_from_text_or_json(
    run: Run, store: Store, sender: SandboxServer, configure: Callable[..., None]
) -> None:
    secret = "whsec_" + "c2VjcmV0" * 6
    configure(sources__parallel__api_key="key", sources__parallel__base_url=sender.url)
    configure(sources__parallel__signing_secrets=json.dumps([secret]))
    ended = run(
        *["task", "create", "parallel", "--processor", "core", "--input", '{"name": "a"}'],
        *["--output-schema", '{"type": "object"}', "--wait", "--json"],
    )
    shown = json.loads(ended.out)
    assert (ended.code, shown["input"], shown["runner"]) == (0, {"name": "a"}, "core")
    assert shown["result"]["status"] == "completed"


# --- wait ---------------------------------------------------------------------------------------


def test_create_with_wait_prints_the_outcome(run: Run, store: Store, sender: SandboxServer) -> None:
    ended = run("task", "create", "valyu", "--query", "Grid storage", "--wait")
    run_id, outcome = ended.out.splitlines()
    assert outcome.startswith("completed, version 1: Grid storage, markdown of ")
    assert (ended.code, outcome.endswith(" characters, 2 sources")) == (0, True)
    assert store.runs.show(run_id)[0]["result_status"] == "completed"


@pytest.mark.parametrize(("fail", "code"), [([], 0), (["--fail"], 1)])
def test_wait_fails_with_a_failed_task(run: Run, store: Store, fail: list[str], code: int) -> None:
    ended = run("task", "wait", create(run, query="q [fail]"), *fail)
    assert (ended.code, ended.out.startswith("failed, version 1: ")) == (code, True)


def test_wait_prints_the_question_at_once(run: Run, store: Store) -> None:
    run_id = create(run, "--hitl", "plan_review")
    ended = run("task", "wait", run_id, "--timeout", "2")
    assert (ended.code, ended.out) == (1, "No result is stored yet.\n")
    assert ended.err == (
        f"{run_id} awaits input (plan_review): "
        f"resultsink task respond {run_id} --response '{{\"approved\": true}}'\n"
    )


def test_wait_reports_a_failing_sender_once(run: Run, store: Store, sender: SandboxServer) -> None:
    run_id = create(run)
    sender.add_fault("GET /deepresearch/tasks/*/status", status=500, error="Oops", times=None)
    ended = run("task", "wait", run_id, "--timeout", "2")
    assert (ended.code, ended.out) == (1, "No result is stored yet.\n")
    assert ended.err == (
        "The sender did not tell of it: the sender answered 500: Oops. Waiting goes on.\n"
    )


def test_wait_ends_at_its_deadline_always(run: Run, store: Store, sender: SandboxServer) -> None:
    run_id = create(run)
    sender.add_fault("GET /deepresearch/tasks/*/status", kind="hang", times=1)
    began = time.monotonic()
    assert run("task", "wait", run_id, "--timeout", "0.3").code == 1
    assert time.monotonic() - began < SOON


def test_wait_without_an_api_key(
    run: Run, store: Store, sender: SandboxServer, configure: Callable[..., None]
) -> None:
    run_id = create(run)
    bring_in(store, sender)
    configure(sources__valyu__api_key=None)
    ended = run("task", "wait", run_id, "--json")
    assert (ended.code, json.loads(ended.out)["result"]["status"]) == (0, "completed")


# --- show ---------------------------------------------------------------------------------------


def test_show_asks_the_sender_and_prints_artifacts(
    run: Run, store: Store, sender: SandboxServer
) -> None:
    sender.change(images=1, pdf_url="presigned")
    run_id = create(run, "--deliverable", "xlsx:Vendors", "--format", "pdf", query="Grid")
    ended = run("task", "show", run_id)
    assert (ended.code, ended.err) == (0, "")
    for said in (
        "completed, version 1: Grid",
        "xlsx",
        "del_1",
        "img_1",
        "pdf",
        "(signed: see --json)",
    ):
        assert said in ended.out
    assert ("token=" in ended.out, "signature=" in ended.out) == (False, False)


def test_show_prints_the_whole_for_programs(run: Run, store: Store) -> None:
    run_id = create(run, "--deliverable", "xlsx")
    shown = json.loads(run("task", "show", run_id, "--json").out)
    assert (shown["run_id"], shown["result"]["run_id"], shown["origin"]) == (run_id, run_id, "api")
    (artifact,) = shown["artifacts"]
    assert (artifact["kind"], artifact["status"]) == ("xlsx", "completed")
    assert "?token=" in artifact["url"]
    assert "token=hidden" in shown["result"]["raw"]["deliverables"][0]["url"]


def test_offline_show_asks_nobody(run: Run, store: Store, sender: SandboxServer) -> None:
    run_id = create(run)
    before = sender.state()["calls"]
    ended = run("task", "show", run_id, "--offline")
    assert (ended.code, "No result is stored yet." in ended.out) == (0, True)
    assert sender.state()["calls"] == before


def test_show_prints_the_question(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.change(hitl_timeout=0)
    run_id = create(run, "--hitl", "source_review")
    until(lambda: "paused" in run("task", "show", run_id).out)
    shown = run("task", "show", run_id).out
    assert "is paused until it is answered (source_review): " in shown
    assert f"resultsink task respond {run_id} --response " in shown
    assert "utility.example" in shown  # what it asks about
    listed = run("task", "list").out
    assert ("source_review" in listed, "paused" in listed) == (True, True)


def test_result_from_a_webhook_is_marked(run: Run, store: Store, sender: SandboxServer) -> None:
    run_id = create(run)
    body = json.dumps(ask(sender, "GET", f"/deepresearch/tasks/{run_id}/status")).encode()
    ask(sender, "DELETE", f"/deepresearch/tasks/{run_id}/delete")
    endpoint = store.endpoints.find_by_resource("valyu", run_id)
    assert endpoint is not None
    working.announce(store, run_id, kind="task", endpoint_id=endpoint.id, body=body)
    working.tried_in_vain(store, 16)
    bring_in(store, sender)
    ended = run("task", "show", run_id)
    assert ended.code == 1
    assert ended.sentence.endswith(f"What is stored of it: task show {run_id} --offline.")
    shown = run("task", "show", run_id, "--offline")
    assert "The sender has forgotten it: this is what its signed webhook carried." in shown.out


@pytest.mark.parametrize("command", [["show"], ["wait"], ["cancel"], ["update"], ["respond"]])
def test_an_unknown_task_is_wrong_use(run: Run, store: Store, command: list[str]) -> None:
    more = {"update": ["x"], "respond": ["--response", "{}"]}.get(command[0], [])
    ended = run("task", *command, "t1", *more)
    assert (ended.code, ended.sentence.startswith("There is no task t1: see `task list`")) == (
        2,
        True,
    )


# --- steering -----------------------------------------------------------------------------------


def test_response_from_a_file(run: Run, store: Store) -> None:
    run_id = create(run, "--hitl", "plan_review")
    Path("answer.json").write_text('{"approved": true}')
    ended = run("task", "respond", run_id, "--response", "answer.json")
    assert ended.err == f"{run_id} has the answer; next: resultsink task wait {run_id}\n"
    assert run("task", "wait", run_id, "--fail").code == 0
    again = run("task", "respond", run_id, "--response", "{}")
    assert (again.code, again.sentence) == (1, f"{run_id} was not answered: it asks nothing now.")


def test_update_and_cancel_a_task(run: Run, store: Store) -> None:
    run_id = create(run, query="[stuck]")
    assert run("task", "update", run_id, "look at 2026").err == f"{run_id} has the instruction.\n"
    assert run("task", "cancel", run_id).err == f"{run_id} is cancelled.\n"
    again = run("task", "cancel", run_id)
    assert (again.code, "the sender answered 400" in again.sentence) == (1, True)


def test_list_has_single_tasks_only(run: Run, store: Store, sender: SandboxServer) -> None:
    assert run("task", "list").err == "There are no tasks yet: see `task create --help`.\n"
    ids = [create(run), create(run)]
    Path("tasks.csv").write_text("query\none\n")
    run("batch", "create", "valyu", "--tasks", "tasks.csv")
    listed: Any = json.loads(run("task", "list", "--json").out)
    assert [row["run_id"] for row in listed] == ids[::-1]
    assert len(json.loads(run("task", "list", "--json", "--limit", "1").out)) == 1


def test_interrupted_create_finds_its_task(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.add_fault("POST /deepresearch/tasks", kind="lost")
    sender.add_fault("GET /deepresearch/list", status=500)
    ended = run("task", "create", "valyu", "--query", "q")
    (known,) = store.submissions.list_all()
    assert (ended.code, f"--resume {known.id}." in ended.sentence) == (1, True)
    assert f"resultsink task create --resume {known.id}.\n" in run("task", "list").err
    ended = run("task", "create", known.id, "--resume")
    assert (ended.code, ended.out) == (0, f"{store.runs.list_single()[0]['run_id']}\n")
    assert store.submissions.list_all() == []
