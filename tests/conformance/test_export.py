"""Handing on: the same columns and keys, whoever the sender is."""

import csv
import json
from pathlib import Path

import pytest

from receiver.sandbox import SandboxServer
from storage.export.json import KEYS
from tests.conformance.cases import Case
from tests.conformance.sink import Sink
from tests.receiver.cli.conftest import Run

pytestmark = pytest.mark.one_database
"""Each sender's columns are at stake; tests/storage/export writes them from both."""

FIXED = ("task_id", "batch_run_id", "run_id", "status", "runner")


def test_export_has_documented_columns_and_keys(
    case: Case, sandbox: SandboxServer, long_lived: Sink, run: Run
) -> None:
    sink = long_lived
    # Held, or the run whose callback comes first would be stored before the batch is.
    sandbox.change(failing_tasks=1, hold=True)
    batch_id = sink.create(case, 3)
    sandbox.change(hold=False)
    sink.complete(batch_id)
    sink.quiet()  # its log goes where the commands of this process write
    assert run("export", "--batch", batch_id, "--output", "results.csv").code == 0
    with Path("results.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == FIXED + case.header
    assert [row[2] for row in rows] == sink.runs(batch_id)
    assert [row[3] for row in rows] == ["failed", "completed", "completed"]
    results = json.loads(run("export", "--batch", batch_id, "--format", "json").out)
    assert [tuple(result) for result in results] == [KEYS] * 3
    completed = run("export", "--batch", batch_id, "--format", "jsonl", "--status", "completed")
    assert [json.loads(line) for line in completed.out.splitlines()] == results[1:]
