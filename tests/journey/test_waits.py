"""Waiting for batches of every sender whose webhooks never come."""

from pathlib import Path

from receiver.sandbox import SandboxServer
from receiver.settings import load
from tests.behind import execute
from tests.processes import Receiver
from tests.receiver.cli.conftest import Run

HOW = {
    "valyu": [],
    "parallel": ["--processor", "core"],
    "legacy": ["--runner", "neon", "--prompt", "Who is ${query}?"],
}


def test_wait_needs_no_webhook(receiver: Receiver, sender: SandboxServer, run: Run) -> None:
    sender.change(webhook=False, failing_tasks=0)
    Path("tasks.csv").write_text("query\none\ntwo\nthree\nfour\nfive\n")
    batches = {
        source: run("batch", "create", source, "--tasks", "tasks.csv", *how).out.strip()
        for source, how in HOW.items()
    }
    make_old()
    waited = receiver.run("batch", "wait", *batches.values(), "--timeout", "90")
    assert waited.returncode == 0, waited.stderr
    for source, batch_id in batches.items():
        assert f"{batch_id}: completed: 5 of 5 results stored, 0 failed\n" in waited.stdout
        began = f"The sender is done with {batch_id}, but no webhook of it has arrived"
        (said,) = [line for line in waited.stderr.splitlines() if line.startswith(began)]
        assert source in said
    assert "Traceback" not in receiver.log.read_text()


def make_old() -> None:
    """The webhooks of all batches had time to come."""
    execute(load().database_url, "UPDATE batches SET created_at = '2026-01-01 00:00:00.000000'")
