"""resultsink batch: what is created, waited for and shown, for people and for programs."""

import asyncio
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from receiver.sandbox import SandboxServer
from storage import Store, Submission
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.working import a_source, ask, make_due, work_off

# No SQL is at stake: the verbs of the store are tested on both databases in tests/storage.
pytestmark = pytest.mark.one_database

running_sender, sender = working.running_sender, working.sender

LEDGER = {"source", "batch_id", "name", "state", "expected", "announced", "stored", "failed"}


@pytest.fixture(autouse=True)
def reachable(configured: Callable[..., None], sender: SandboxServer) -> None:
    """The sandbox is the sender; its tasks are held until they may go."""
    configured(sources__valyu__base_url=sender.api_url)
    sender.change(hold=True)


def create(run: Run, *queries: str) -> str:
    """A batch of these tasks; returns its id."""
    Path("tasks.csv").write_text("\n".join(["query", *queries, ""]))
    return run("batch", "create", "valyu", "--tasks", "tasks.csv").out.strip()


def bring_in(store: Store, sender: SandboxServer) -> None:
    """Let the tasks end, and the receiver do its work."""
    sender.change(hold=False)
    make_due(store)
    asyncio.run(work_off(store, a_source(sender.api_url)))


def test_create_prints_the_id_alone(run: Run, store: Store, sender: SandboxServer) -> None:
    Path("tasks.csv").write_text("query\none\ntwo\n")
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv", "--name", "Grid")
    (batch,) = sender.state()["batches"]
    assert (ended.code, ended.out) == (0, f"{batch['batch_id']}\n")
    assert ended.told == f"2 tasks added; next: resultsink batch wait {batch['batch_id']}\n"
    assert (batch["name"], batch["counts"]["total"]) == ("Grid", 2)


def test_create_says_how_it_read(run: Run, store: Store) -> None:
    Path("tasks.csv").write_bytes("sep=;\r\nquery;\r\none;\r\n;\r\n".encode("utf-16"))
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert ended.err.startswith(
        "Read 1 task from tasks.csv: one column, UTF-16, "
        "1 empty row left out, 1 empty column left out.\n"
    )


def test_encoding_and_separator_can_be_told(run: Run, store: Store) -> None:
    Path("tasks.csv").write_bytes("query|a\nZürich?|b\n".encode("cp1252"))
    told = ["--encoding", "cp1252", "--separator", "bar"]
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv", *told)
    assert ended.err.startswith("Read 1 task from tasks.csv: separated by bars, cp1252.\n")


def test_create_prints_the_ledger_for_programs(run: Run, store: Store) -> None:
    Path("tasks.jsonl").write_text('{"query": "one"}\n')
    Path("schema.json").write_text(
        '{"type": "object", "properties": {"price": {"type": "number"}}}'
    )
    ended = run(
        *["batch", "create", "valyu", "--tasks", "tasks.jsonl", "--mode", "heavy"],
        *["--output-schema", "schema.json", "--json"],
    )
    shown = json.loads(ended.out)
    assert (shown["expected"], shown["runner"], shown["state"]) == (1, "heavy", "open")
    assert (shown.keys() >= LEDGER, ended.told) == (True, "")


def test_wait_ends_when_all_is_stored(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one", "two")
    bring_in(store, sender)
    ended = run("batch", "wait", batch_id, "--fail")
    assert (ended.code, ended.out) == (0, "completed: 2 of 2 results stored, 0 failed\n")
    assert ended.err == ""  # no bar, for this is no terminal


@pytest.mark.parametrize(("fail", "code"), [([], 0), (["--fail"], 1)])
def test_wait_with_fail_exits_1_for_failed_runs(
    run: Run, store: Store, sender: SandboxServer, fail: list[str], code: int
) -> None:
    batch_id = create(run, "one", "two [fail]")
    bring_in(store, sender)
    ended = run("batch", "wait", batch_id, *fail)
    assert ended.out == "completed with errors: 2 of 2 results stored, 1 failed\n"
    assert ended.code == code


def test_wait_exits_1_at_its_deadline(run: Run, store: Store) -> None:
    batch_id = create(run, "one")
    ended = run("batch", "wait", batch_id, "--timeout", "0.1")
    assert (ended.code, ended.out) == (1, "not complete: 0 of 1 results stored, 0 failed\n")


def test_wait_warns_without_a_receiver(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one")
    store.close()
    ended = run("batch", "wait", batch_id, "--timeout", "0", "--json")
    assert ended.err == (
        "No receiver serves this database now: start `resultsink serve`. "
        "Until then this command asks the sender itself.\n"
    )
    assert json.loads(ended.out)["state"] == "open"


def test_wait_for_a_cancelled_batch(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one", "two")
    cancelled = run("batch", "cancel", batch_id)
    assert (cancelled.code, cancelled.out) == (0, "")
    assert (
        cancelled.err == f"{batch_id} is cancelled; its results so far are stored as they arrive.\n"
    )
    bring_in(store, sender)
    ended = run("batch", "wait", batch_id)
    assert (ended.code, ended.out) == (0, "cancelled: 2 of 2 results stored, 2 failed\n")


def test_refused_cancel_quotes_the_sender(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one")
    bring_in(store, sender)
    ended = run("batch", "cancel", batch_id)
    assert (ended.code, ended.sentence) == (
        1,
        f"{batch_id} was not cancelled: the sender answered 400: "
        "Cannot cancel a batch that is completed.",
    )


def test_add_with_skip(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one")
    Path("more.csv").write_text("query\none\ntwo\nthree\n")
    ended = run("batch", "add", batch_id, "--tasks", "more.csv", "--skip", "1")
    assert ended.told == f"2 tasks added; next: resultsink batch wait {batch_id}\n"
    assert sender.state()["batches"][0]["counts"]["total"] == 3


def test_skip_creates_the_rest_of_a_file(run: Run, store: Store, sender: SandboxServer) -> None:
    Path("tasks.csv").write_text("query\none\ntwo\nthree\n")
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv", "--skip", "2")
    assert (ended.code, ended.told.startswith("1 tasks added; next: ")) == (0, True)
    (row,) = working.sql(store, "SELECT input FROM runs")
    assert json.loads(row["input"]) == {"query": "three"}
    nothing = run("batch", "create", "valyu", "--tasks", "tasks.csv", "--skip", "3")
    sentence = "tasks.csv has no task after the first 3: nothing was created."
    assert (nothing.code, nothing.sentence) == (2, sentence)
    assert len(sender.state()["batches"]) == len(store.endpoints.list_all()) == 1


def test_refusal_prints_next_command(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.change(max_batch_tasks=100)
    Path("tasks.csv").write_text("\n".join(["query", *map(str, range(107)), ""]))
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv", "--skip", "2", "--json")
    (known,) = store.submissions.list_all()
    command = f"Once that is mended: resultsink batch create --resume {known.id}."
    assert (ended.code, ended.sentence.endswith(command), known.skipped) == (1, True, 2)


def test_cancelled_batch_is_fetched_at_once(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one", "two")
    run("batch", "cancel", batch_id)
    asyncio.run(work_off(store, a_source(sender.api_url)))
    assert run("batch", "wait", batch_id, "--timeout", "0").code == 0


class WithoutSecret(BaseHTTPRequestHandler):
    """A sender that gives a batch no secret, which the sandbox does not play."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = b'{"batch_id": "batch_1", "tasks": [{"deepresearch_id": "r1"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Standard error is the command's."""


def test_missing_secret_warns_on_standard_error(
    run: Run, store: Store, configured: Callable[..., None]
) -> None:
    Path("tasks.csv").write_text("query\none\n")
    with HTTPServer(("127.0.0.1", 0), WithoutSecret) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configured(sources__valyu__base_url=f"http://127.0.0.1:{server.server_port}/v1")
        ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
        server.shutdown()
    warning, said = ended.told.splitlines()
    assert (ended.code, ended.out) == (0, "batch_1\n")
    assert warning.startswith("The sender gave no signing secret for batch_1: its webhooks cannot")
    assert said == "1 tasks added; next: resultsink batch wait batch_1"


def test_nothing_left_to_add_is_an_error(run: Run, store: Store) -> None:
    batch_id = create(run, "one")
    ended = run("batch", "add", batch_id, "--tasks", "tasks.csv", "--skip", "1")
    assert (ended.code, ended.sentence) == (
        2,
        "tasks.csv has no task after the first 1: nothing was added.",
    )


def test_only_status_asks_the_sender(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one")
    ask(sender, "POST", f"/deepresearch/batches/{batch_id}/cancel", {})
    shown = run("batch", "show", batch_id, "--json")
    ended = run("batch", "status", batch_id, "--json")
    assert json.loads(shown.out)["sender_status"] is None
    assert json.loads(ended.out)["sender_status"] == "cancelled"


def test_show_names_what_is_missing(run: Run, store: Store) -> None:
    batch_id = create(run, "one", "two")
    missing = json.loads(run("batch", "show", batch_id, "--json").out)["missing_runs"]
    assert [run["status"] for run in missing] == ["queued", "queued"]
    text = run("batch", "show", batch_id).out
    assert "2 runs have no result yet:" in text
    assert all(run["run_id"] in text for run in missing)


def test_show_says_that_the_source_is_paused(run: Run, store: Store, sender: SandboxServer) -> None:
    batch_id = create(run, "one")
    make_due(store)
    asyncio.run(work_off(store, a_source(sender.api_url, api_key="wrong")))
    reason = "the sender answered 401: Invalid API key"
    assert f"paused     {reason}, " in run("batch", "show", batch_id).out
    assert run("batch", "wait", batch_id, "--timeout", "0").err == (
        f"Source valyu is paused: {reason}.\nSource valyu is still paused: {reason}.\n"
    )


def test_batches_are_listed_newest_first(run: Run, store: Store) -> None:
    ids = [create(run, "one"), create(run, "two")]
    shown = json.loads(run("batch", "list", "--json").out)
    assert [batch["batch_id"] for batch in shown] == ids[::-1]
    assert run("batch", "list", "--limit", "1").out.count("batch_") == 1
    assert json.loads(run("batch", "list", "--source", "other", "--json").out) == []


def test_empty_list_says_how_to_begin(run: Run, store: Store) -> None:
    ended = run("batch", "list")
    assert (ended.out, ended.err) == (
        "",
        "There are no batches yet: see `batch create --help`.\n",
    )


# --- what was interrupted -----------------------------------------------------------------------


@pytest.fixture
def interrupted(run: Run, store: Store, sender: SandboxServer) -> Submission:
    """A batch without the tasks that were refused."""
    sender.add_fault("POST /deepresearch/batches/*/tasks", status=402)
    Path("tasks.csv").write_text("query\none\ntwo\n")
    assert run("batch", "create", "valyu", "--tasks", "tasks.csv").code == 1
    (known,) = store.submissions.list_all()
    return known


@pytest.mark.parametrize("name", [None, "id", "batch_id", "source"])
def test_resume_finishes_what_is_named(
    run: Run, store: Store, sender: SandboxServer, interrupted: Submission, name: str | None
) -> None:
    named = [] if name is None else [getattr(interrupted, name)]
    ended = run("batch", "create", *named, "--resume")
    assert (ended.code, ended.out) == (0, f"{interrupted.batch_id}\n")
    assert ended.err == f"2 tasks added; next: resultsink batch wait {interrupted.batch_id}\n"
    assert sender.state()["batches"][0]["counts"]["total"] == 2
    again = run("batch", "create", *named, "--resume")
    assert (again.code, again.sentence.startswith("Nothing is unfinished")) == (1, True)


def test_unfinished_batch_is_shown_as_such(run: Run, store: Store, interrupted: Submission) -> None:
    sentence = (
        f"Not finished: {interrupted.id} (0 of 2 tasks are added to {interrupted.batch_id}). "
        "Unless a command is at it now, go on with: "
        f"resultsink batch create --resume {interrupted.id}.\n"
    )
    assert run("batch", "list").err == sentence
    shown = run("batch", "show", str(interrupted.batch_id), "--json")
    assert (shown.err, json.loads(shown.out)["expected"]) == (sentence, 2)


def test_wait_and_reconcile_say_how_to_go_on(
    run: Run, store: Store, interrupted: Submission
) -> None:
    batch_id, resume = interrupted.batch_id, f"resultsink batch create --resume {interrupted.id}"
    waited = run("batch", "wait", str(batch_id), "--timeout", "0")
    assert waited.err.startswith(f"Not finished: {interrupted.id} (0 of 2 tasks are added")
    assert f"2 of its tasks are not added yet. To go on: {resume}\n" in waited.err
    shown = json.loads(run("batch", "show", str(batch_id), "--json").out)
    told = run("batch", "show", str(batch_id)).out
    assert f"missing    2  not sent yet: resume with {resume}\n" in told
    assert shown["unfinished"] == [{"id": interrupted.id, "done": 0, "total": 2}]
    looked = run("reconcile")
    assert (looked.code, "going on" in looked.out) == (1, False)
    assert f"incomplete: batch {batch_id}: 2 of its 2 tasks are not added yet" in looked.err
    assert resume in looked.err


def test_several_unfinished_must_be_named(
    run: Run, store: Store, sender: SandboxServer, interrupted: Submission
) -> None:
    sender.add_fault("POST /deepresearch/batches", kind="html")
    assert run("batch", "create", "valyu", "--tasks", "tasks.csv").code == 1
    ended = run("batch", "create", "--resume")
    ids = [known.id for known in store.submissions.list_all()]
    assert (ended.code, all(each in ended.sentence for each in ids)) == (2, True)
    assert "(0 of 2 tasks are added to a new batch of source valyu)" in ended.sentence


def test_given_up_submission_is_gone(
    run: Run, store: Store, sender: SandboxServer, interrupted: Submission
) -> None:
    ended = run("batch", "create", "--resume", "--give-up")
    assert (ended.code, ended.err) == (
        0,
        f"{interrupted.id} is given up: 2 tasks were not added.\n",
    )
    assert store.submissions.list_all() == []
    assert sender.state()["batches"][0]["counts"]["total"] == 0


def test_unfinished_batch_is_named_by_name_or_beginning(
    run: Run, store: Store, sender: SandboxServer
) -> None:
    Path("tasks.csv").write_text("query\none\n")
    create = ("batch", "create", "valyu", "--tasks", "tasks.csv")
    for fault in ("POST /deepresearch/batches/*/tasks", "POST /deepresearch/batches"):
        for name in ("Grid", "Grid two"):
            sender.add_fault(fault, kind="html")
            assert run(*create, "--name", f"{name} {len(fault)}").code == 1
    for named in ("Grid 34", "Grid two 34", "Grid two 2", "Grid 2"):
        assert run("batch", "create", "--resume", named, "--give-up").code == 0
    assert store.submissions.list_all() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--resume", "--tasks", "tasks.csv"),
            "--resume takes no --tasks: all of it is stored since the start.",
        ),
        (
            ("valyu", "--tasks", "tasks.csv", "--give-up"),
            "--repeat and --give-up are for --resume.",
        ),
    ],
)
def test_resume_needs_nothing_that_is_stored(
    run: Run, store: Store, arguments: tuple[str, ...], sentence: str
) -> None:
    ended = run("batch", "create", *arguments)
    assert (ended.code, ended.sentence) == (2, sentence)
