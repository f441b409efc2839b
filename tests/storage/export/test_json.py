"""A JSON array and JSON Lines as a program reads them."""

import json
from datetime import UTC, datetime

import pytest

from storage.export import ExportStore, Selection, rows
from storage.export.json import KEYS
from tests.storage.export.conftest import Shelf

MOMENT = datetime(2026, 10, 5, 9, 0, 0, 250_000, tzinfo=UTC)


def fill(shelf: Shelf) -> None:
    shelf.put(
        "r1",
        {"score": 0.1, "name": "é"},
        input={"q": 1},
        batch_id="b",
        task_id="t",
        runner="fast",
        created_at=MOMENT,
        completed_at=MOMENT,
        sources=[{"url": "https://example.com"}],
        cost=0.25,
        raw='{"status": "completed"}',
    )
    shelf.put("r2", {"partial": 1}, status="failed", error='gave "up"\n')


def test_every_object_has_every_key(shelf: Shelf) -> None:
    fill(shelf)
    first, second = json.loads(shelf.export("json"))
    assert first == {
        "source": "valyu",
        "batch_id": "b",
        "run_id": "r1",
        "task_id": "t",
        "status": "completed",
        "runner": "fast",
        "input": {"q": 1},
        "output": {"score": 0.1, "name": "é"},
        "sources": [{"url": "https://example.com"}],
        "error": None,
        "cost": 0.25,
        "version": 1,
        "digest": "abcd",
        "created_at": "2026-10-05T09:00:00.250000Z",
        "completed_at": "2026-10-05T09:00:00.250000Z",
        "fetched_at": "2026-10-05T12:00:00.000000Z",
        "raw": {"status": "completed"},
    }
    assert tuple(second) == KEYS
    assert (second["output"], second["error"]) == ({"partial": 1}, 'gave "up"\n')
    assert (second["input"], second["created_at"], second["cost"]) == (None, None, None)


def test_json_lines_equal_the_array_objects(shelf: Shelf) -> None:
    fill(shelf)
    data, report = shelf.report("jsonl")
    lines = data.decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == json.loads(shelf.export("json"))
    assert (report.rows, report.columns) == (2, KEYS)


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_unicode_line_ends_stay_inside_lines(shelf: Shelf, format: str) -> None:
    text = "one\x85two\u2028three\u2029four\\"
    shelf.put("r1", raw=json.dumps(text, ensure_ascii=False), error=text)
    written = shelf.export(format).decode()
    assert written.splitlines() == written.removesuffix("\n").split("\n")
    read = json.loads(written) if format == "jsonl" else json.loads(written)[0]
    assert (read["error"], read["raw"]) == (text, text)


def test_errors_carry_no_signed_urls(shelf: Shelf) -> None:
    url = "https://s3.example/k?X-Amz-Signature="
    shelf.put("r1", status="failed", error=f"could not read {url}0af3, gave up")
    (line,) = shelf.export("jsonl").splitlines()
    assert json.loads(line)["error"] == f"could not read {url}hidden gave up"


def test_empty_store_gives_empty_output(shelf: Shelf) -> None:
    assert json.loads(shelf.export("json")) == []
    assert shelf.export("jsonl") == b""


@pytest.mark.parametrize("output", ["a report", 'say "no"\n', [1, None], 7, True, {}, None])
def test_any_output_kind_reads_back(shelf: Shelf, output: object) -> None:
    shelf.put("r1", output)
    assert json.loads(shelf.export("jsonl"))["output"] == output


def test_multi_line_json_becomes_one_line(shelf: Shelf) -> None:
    shelf.put("r1", raw='{\r\n  "a": "b\\n"\n}')
    (line,) = shelf.export("jsonl").splitlines()
    assert json.loads(line)["raw"] == {"a": "b\n"}


@pytest.mark.sqlite
def test_numbers_that_json_forbids_become_null(shelf: Shelf) -> None:
    shelf.put("r1", {"a": float("nan"), "b": "NaN"}, raw="[-Infinity, 1e999]", cost=float("inf"))
    shelf.put("r2", {"b": "To Infinity"}, raw='["NaN", 1.50]')
    first, second = shelf.export("jsonl").splitlines()
    assert b'"output": {"a": null, "b": "NaN"}' in first
    assert b'"raw": [null, null]' in first
    assert b'"cost": null' in first
    assert b'"raw": ["NaN", 1.50]' in second


def test_streamed_lines_equal_the_file(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(shelf)
    whole = shelf.export("jsonl")
    monkeypatch.setattr(rows, "PAGE_ROWS", 1)
    assert list(ExportStore(shelf.database).json_lines(Selection())) == whole.splitlines(
        keepends=True
    )


def test_stream_is_fixed_at_its_start(shelf: Shelf) -> None:
    shelf.put("r1")
    pieces = ExportStore(shelf.database).json_lines(Selection())
    shelf.put("r2")
    assert [json.loads(piece)["run_id"] for piece in pieces] == ["r1"]
