"""The way of a user, all of it through the command line, beside a receiver that really serves."""

import csv
import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from valyu import Valyu

from receiver.app import open_store
from receiver.sandbox import SandboxServer
from receiver.settings import load
from tests.behind import execute
from tests.journey.conftest import KEY
from tests.processes import COMMAND, Receiver, environment, until
from tests.receiver.cli.conftest import Run

PAGES = "GET /deepresearch/batches/*/tasks"


def said(receiver: Receiver, *arguments: str) -> str:
    """The standard output of a command that succeeds, run as a process."""
    ended = receiver.run(*arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def parsed(run: Run, *arguments: str) -> Any:
    """Run a command in this process, and return the JSON that it prints."""
    ended = run(*arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def events(run: Run, resource: str) -> list[Any]:
    return [event for event in parsed(run, "event", "list") if resource in event["key"]]


def never_to_be_seen() -> list[str]:
    """The API key and every signing secret."""
    with closing(open_store(load())) as store:
        found = [store.endpoints.find(each["id"]) for each in store.endpoints.list_all()]
    return [KEY, *(secret.text for endpoint in found if endpoint for secret in endpoint.secrets)]


def make_checks_due() -> None:
    """Ten minutes pass for every endpoint."""
    execute(
        load().database_url,
        "UPDATE jobs SET next_attempt_at = '2026-01-01 00:00:00.000000'"
        " WHERE kind = 'check' AND status = 'pending'",
    )


def test_tasks_file_to_export_in_bad_mood(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    rows = "".join(f'"query {number}\nof two lines",id{number},{number}\n' for number in range(8))
    Path("tasks.csv").write_text(f"query,id,row\n{rows}")
    sender.add_fault(PAGES, status=500)
    sender.add_fault(PAGES, status=429, after=1)

    batch_id = said(receiver, "batch", "create", "valyu", "--tasks", "tasks.csv").strip()
    waited = receiver.run("batch", "wait", batch_id, "--timeout", "40", "--fail")
    assert waited.stdout == "completed with errors: 8 of 8 results stored, 2 failed\n"
    assert waited.returncode == 1
    assert "Traceback" not in waited.stderr

    shown = parsed(run, "batch", "show", batch_id)
    assert (shown["state"], shown["stored"], shown["missing"]) == ("complete", 8, 0)
    until(lambda: sender.state()["pending_deliveries"] == 0)
    (event,) = events(run, batch_id)
    assert (event["deliveries"], event["jobs"]) == (2, "done")
    attempts = parsed(run, "event", "show", str(event["id"]))["attempts"]
    assert sorted(each["outcome"] for each in attempts) == ["done", "failed", "not yet"]
    rejected = parsed(run, "rejected", "list")
    assert [each["endpoint_id"] for each in rejected] == [shown["endpoint_id"]] * 3
    assert parsed(run, "dead", "list") == []

    said(receiver, "export", "--batch", batch_id, "--output", "results.csv")
    with Path("results.csv").open(newline="") as file:
        written = {row["task_id"]: row for row in csv.DictReader(file)}
    assert written.keys() == {f"id{number}" for number in range(8)}
    assert (written["id7"]["query"], written["id7"]["row"]) == ("query 7\nof two lines", "7")
    lines = said(receiver, "export", "--batch", batch_id, "--format", "jsonl").splitlines()
    results = [json.loads(line) for line in lines]
    assert [result["status"] for result in results] == ["failed"] * 2 + ["completed"] * 6
    assert {result["version"] for result in results} == {1}

    log = receiver.log.read_text()
    for secret in never_to_be_seen():
        assert secret not in log + Path("results.csv").read_text() + "".join(lines)
    assert "Traceback" not in log


def test_early_webhook_of_foreign_batch_is_kept(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    made = parsed(run, "endpoint", "add", "valyu", "--kind", "batch")
    with Valyu(api_key=KEY, base_url=sender.api_url) as sdk:
        batch = sdk.batch.create(mode="fast", webhook_url=made["url"])
        sdk.batch.add_tasks(batch.batch_id, [{"query": f"q{number}"} for number in range(4)])
    until(lambda: [each for each in sender.state()["deliveries"] if each["status"] == 503])

    register = ["endpoint", "secret", made["endpoint"], "--resource", batch.batch_id]
    assert run(*register, stdin=batch.webhook_secret).code == 0
    ended = run("batch", "wait", batch.batch_id, "--timeout", "40")
    assert ended.out == "completed with errors: 4 of 4 results stored, 2 failed\n"
    assert len(events(run, batch.batch_id)) == 1


def test_other_code_creates_a_single_task(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    sender.change(hold=True)
    made = parsed(run, "endpoint", "add", "valyu", "--kind", "task")
    with Valyu(api_key=KEY, base_url=sender.api_url) as sdk:
        task = sdk.deepresearch.create(query="alone", mode="fast", webhook_url=made["url"])
    register = ["endpoint", "secret", made["endpoint"], "--resource", task.deepresearch_id]
    assert run(*register, stdin=task.webhook_secret).code == 0
    sender.change(hold=False)

    def exported() -> list[Any]:
        results = json.loads(run("export", "--source", "valyu", "--format", "json").out)
        return [result for result in results if result["run_id"] == task.deepresearch_id]

    (result,) = until(exported)
    assert (result["status"], result["input"]["query"]) == ("completed", "alone")


def test_unanswered_creation_without_webhooks_completes(
    receiver: Receiver, sender: SandboxServer, run: Run
) -> None:
    sender.change(webhook=False, hold=True)
    sender.add_fault("POST /deepresearch/batches", kind="lost")
    Path("tasks.csv").write_text("query\none\n")
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    (batch,) = sender.state()["batches"]
    assert (ended.code, ended.out) == (0, f"{batch['batch_id']}\n")
    with Valyu(api_key=KEY, base_url=sender.api_url) as sdk:
        sdk.batch.add_tasks(batch["batch_id"], [{"query": "two"}])
    sender.change(hold=False)
    make_checks_due()
    until(lambda: batch["batch_id"] in run("batch", "list").out)
    assert "2 of 2" in run("batch", "wait", batch["batch_id"], "--timeout", "40").out
    assert events(run, batch["batch_id"]) == []


def test_restarted_receiver_continues(receiver: Receiver, sender: SandboxServer, run: Run) -> None:
    sender.change(hold=True, first_retry_wait=2.0)  # a start may take a while
    Path("tasks.csv").write_text("query\none\n")
    batch_id = run("batch", "create", "valyu", "--tasks", "tasks.csv").out.strip()
    assert receiver.stop() == 0
    sender.change(hold=False)
    assert (
        "No receiver serves this database" in run("batch", "wait", batch_id, "--timeout", "0").err
    )
    receiver.start()
    assert "1 of 1" in run("batch", "wait", batch_id, "--timeout", "90").out
    assert "Traceback" not in receiver.log.read_text()


def exported_to(receiver: Receiver, descriptor: int) -> tuple[int, str]:
    """Run an export to this standard output; return its exit code and standard error."""
    ended = subprocess.run(  # noqa: S603  our own program
        [*COMMAND, "export", "--source", "valyu"],
        env=environment(receiver.settings),
        stdout=descriptor,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(descriptor)
    return ended.returncode, ended.stderr


def test_export_reader_may_leave_early(receiver: Receiver) -> None:
    read, write = os.pipe()
    os.close(read)
    assert exported_to(receiver, write) == (1, "")


def test_export_to_full_disk_is_one_sentence(receiver: Receiver) -> None:
    code, said = exported_to(receiver, os.open("/dev/full", os.O_WRONLY))
    assert (code, said.count("Traceback")) == (2, 0)
    assert said.startswith("resultsink: Standard output cannot be written: No space left")
