"""The exports of v0: JSON in two forms and CSV, in pieces, as the switches say."""

import csv
import io
import json

import httpx
import pytest

from receiver.sandbox import SandboxServer
from tests.receiver.sandbox.parallel_v0.calls import a_batch, a_run, a_task


def exported(v0: httpx.Client, batch: dict[str, str], form: str = "json") -> httpx.Response:
    """The export of a batch."""
    path = f"/tasks/{batch['task_id']}/batches/{batch['batch_run_id']}/export"
    return v0.get(path, params={"format": form})


def table(text: str) -> list[list[str]]:
    """The rows of a CSV, its header first."""
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("count", [1, 250])
def test_json_is_an_array_of_runs(v0: httpx.Client, count: int) -> None:
    batch = a_batch(v0, a_task(v0), *(f"company {number}" for number in range(count)))
    answer = exported(v0, batch)
    assert answer.headers["Content-Type"] == "application/json"
    runs = answer.json()
    assert [run["run_id"] for run in runs] == batch["run_ids"]
    path = f"/tasks/{batch['task_id']}/runs/{batch['run_ids'][0]}"
    assert runs[0] == v0.get(path).json()


def test_json_lines_are_a_switch(v0: httpx.Client, sandbox: SandboxServer) -> None:
    sandbox.change(v0_export_json="ndjson")
    batch = a_batch(v0, a_task(v0), *(f"company {number}" for number in range(250)))
    answer = exported(v0, batch)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = answer.text.splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == batch["run_ids"]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_export_is_streamed(v0: httpx.Client, form: str) -> None:
    answer = exported(v0, a_batch(v0, a_task(v0), "Globex"), form)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers


def test_csv_has_the_contract_s_columns(v0: httpx.Client) -> None:
    batch = a_batch(v0, a_task(v0), 'Acme, "Inc."\n', *["Globex"] * 120)
    answer = exported(v0, batch, "csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    header = "task_id,batch_run_id,run_id,status,runner,company,city,note\r\n"
    assert answer.text.startswith(header)
    assert answer.text.count("\r\n") == 122
    rows = table(answer.text)[1:]
    assert [row[2] for row in rows] == batch["run_ids"]
    lead = [batch["task_id"], batch["batch_run_id"], batch["run_ids"][0], "complete", "neon"]
    assert rows[0][:6] == [*lead, 'Acme, "Inc."\n']


def test_columns_are_in_order_of_first_occurrence(v0: httpx.Client) -> None:
    schema = {"properties": {"b": {"type": "integer"}, "city": {"type": "string"}}}
    task = a_task(v0, input_schema={}, output_schema=schema)
    requests = [{"arguments": {"b": 1}}, {"arguments": {"a": 2, "b": 3}}]
    wanted = {"task_run_requests": requests}
    header, first, second = table(
        exported(v0, v0.post(f"/tasks/{task}/batches", json=wanted).json(), "csv").text
    )
    assert header[5:] == ["b", "a", "b", "city"]
    assert (first[5:7], second[5:7]) == (["1", ""], ["3", "2"])


def test_non_text_is_json_in_csv(v0: httpx.Client) -> None:
    values = [{"k": ["é", 1]}, [1, 2], True, None, 1.5, "=1+1"]
    batch = a_batch(v0, a_task(v0), *values)
    rows = table(exported(v0, batch, "csv").text)[1:]
    assert [row[5] for row in rows] == ['{"k": ["é", 1]}', "[1, 2]", "true", "", "1.5", "=1+1"]


def test_only_complete_runs_are_exported_by_default(
    v0: httpx.Client, sandbox: SandboxServer
) -> None:
    batch = a_batch(v0, a_task(v0), "[fail]", "good", "[stuck]", "[cancel]")
    assert [run["status"] for run in exported(v0, batch).json()] == ["complete"]
    sandbox.change(v0_export_rows="terminal")
    statuses = ["failed", "complete", "cancelled"]
    assert [run["status"] for run in exported(v0, batch).json()] == statuses
    rows = table(exported(v0, batch, "csv").text)[1:]
    assert [row[3] for row in rows] == statuses
    assert (rows[0][6:], all(rows[1][6:])) == (["", ""], True)


def test_an_export_of_nothing_is_empty(v0: httpx.Client, sandbox: SandboxServer) -> None:
    sandbox.change(hold=True)
    batch = a_batch(v0, a_task(v0), "Globex")
    assert exported(v0, batch).json() == []
    assert exported(v0, batch, "csv").text == "task_id,batch_run_id,run_id,status,runner\r\n"
    sandbox.change(v0_export_json="ndjson")
    assert exported(v0, batch).content == b""


def test_exports_are_json_by_default(
    v0: httpx.Client,
) -> None:
    task = a_task(v0)
    batch = a_batch(v0, task, "Globex")
    a_run(v0, task, "no part of the batch")
    path = f"/tasks/{task}/batches/{batch['batch_run_id']}/export"
    assert len(v0.get(path).json()) == 1
    assert exported(v0, batch, "xml").status_code == 422


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_export_can_be_cut_off(v0: httpx.Client, sandbox: SandboxServer, form: str) -> None:
    sandbox.add_fault("GET /v0/tasks/*/batches/*/export?**", kind="cut")
    batch = a_batch(v0, a_task(v0), "Globex")
    with pytest.raises(httpx.RemoteProtocolError):
        exported(v0, batch, form)
    assert exported(v0, batch, form).status_code == 200
