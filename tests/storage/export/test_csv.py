"""CSV as a reader sees it."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.errors import ExportChanged
from storage.export import CsvOptions, ExportStore, Selection
from storage.export.columns import DETAILS, FIXED
from storage.models import Run
from tests.storage.export.conftest import NOON, Shelf


def read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))


def records(data: bytes) -> list[dict[str, str]]:
    header, *rows = read(data)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_empty_store_gives_fixed_columns_only(shelf: Shelf) -> None:
    data, report = shelf.report("csv")
    assert data == b"task_id,batch_run_id,run_id,status,runner\r\n"
    assert (report.rows, report.columns) == (0, FIXED)


def test_columns_are_fixed_inputs_then_outputs(shelf: Shelf) -> None:
    shelf.put("r1", {"z": 1, "y": 2}, input={"q": "a"}, task_id="t", batch_id="b", runner="fast")
    shelf.put("r2", {"x": 3, "z": 4}, input={"p": "c", "q": "b"})
    assert read(shelf.export("csv")) == [
        [*FIXED, "q", "p", "z", "y", "x"],
        ["t", "b", "r1", "completed", "fast", "a", "", "1", "2", ""],
        ["", "", "r2", "completed", "", "b", "c", "4", "", "3"],
    ]


def test_lines_end_in_crlf_without_bom(shelf: Shelf) -> None:
    shelf.put("r1", "é")
    *_, last = shelf.export("csv").split(b"\r\n")[:-1]
    assert last == b",,r1,completed,,\xc3\xa9"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (10**20, "100000000000000000000"),
        ({"a": ["é", None]}, '{"a":["é",null]}'),
        ([], "[]"),
        pytest.param("-5", "-5", id="text -5"),
        ("=1+1", "'=1+1"),
    ],
)
def test_a_value_becomes_a_cell(shelf: Shelf, value: Any, cell: str) -> None:
    shelf.put("r1", {"value": value})
    assert records(shelf.export("csv"))[0]["value"] == cell


@pytest.mark.sqlite
def test_forbidden_json_number_is_empty_cell(shelf: Shelf) -> None:
    shelf.put("r1", {"value": float("nan")})
    assert records(shelf.export("csv"))[0]["value"] == ""


@pytest.mark.parametrize(
    ("output", "cell"), [("a report", "a report"), ([1, {"a": 2}], '[1,{"a":2}]'), (7, "7")]
)
def test_non_object_output_is_one_column(shelf: Shelf, output: Any, cell: str) -> None:
    shelf.put("r1", output)
    assert read(shelf.export("csv"))[1:] == [["", "", "r1", "completed", "", cell]]


def test_text_and_object_outputs_share_a_file(shelf: Shelf) -> None:
    shelf.put("r1", "a report")
    shelf.put("r2", {"score": 1})
    first, second = records(shelf.export("csv"))
    assert (first["output"], first["score"]) == ("a report", "")
    assert (second["output"], second["score"]) == ("", "1")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_unfinished_run_has_empty_outputs(shelf: Shelf, status: str) -> None:
    shelf.put("r1", {"score": 1})
    shelf.put("r2", {"score": 2, "partial": 3}, status=status, error="gave up")
    second = records(shelf.export("csv"))[1]
    assert (second["status"], second["score"]) == (status, "")
    assert "partial" not in second


def test_clashing_column_names_are_distinguished(shelf: Shelf) -> None:
    shelf.put("r1", {"name": "out", "status": "x"}, input={"name": "in", "output.name": "odd"})
    row = records(shelf.export("csv"))[0]
    assert (row["status"], row["output.status"]) == ("completed", "x")
    assert (row["input.name"], row["output.name"]) == ("in", "out")
    assert row["input.output.name"] == "odd"


def test_formulas_guarded_in_cells_and_header(shelf: Shelf) -> None:
    shelf.put("=r", {"@sum": "+cmd|' /C calc'!A0"}, task_id="\t=1")
    row = records(shelf.export("csv"))[0]
    assert (row["run_id"], row["task_id"]) == ("'=r", "'\t=1")
    assert row["'@sum"] == "'+cmd|' /C calc'!A0"


def test_formula_guard_can_be_switched_off(shelf: Shelf) -> None:
    shelf.put("r1", {"=key": "=1"})
    shown = shelf.export("csv", csv=CsvOptions(formula_guard=False))
    assert records(shown)[0]["=key"] == "=1"


def test_details_are_columns_of_their_own(shelf: Shelf) -> None:
    shelf.put(
        "r1",
        status="failed",
        error="=no: https://s3.example/k?X-Amz-Signature=0af",
        cost=0.25,
        input={"cost": 7, "q": "a"},
        created_at=NOON,
    )
    data = shelf.export("csv", csv=CsvOptions(details=True))
    assert read(data)[0] == [*FIXED, *DETAILS, "input.cost", "q"]
    row = records(data)[0]
    assert (row["source"], row["cost"], row["version"], row["q"]) == ("valyu", "0.25", "1", "a")
    assert row["error"] == "'=no: https://s3.example/k?X-Amz-Signature=hidden"
    assert (row["created_at"], row["completed_at"]) == ("2026-10-05T12:00:00.000000Z", "")


def test_byte_order_mark_is_once_at_the_start(shelf: Shelf) -> None:
    shelf.put("r1", "é")
    marked = shelf.export("csv", csv=CsvOptions(byte_order_mark=True))
    assert marked == b"\xef\xbb\xbf" + shelf.export("csv")


def test_results_stored_meanwhile_are_left_out(shelf: Shelf) -> None:
    shelf.put("r1", {"score": 1})

    def meanwhile(_rows: int) -> None:
        if _rows == 0:
            shelf.put("r1", {"other": 2}, version=2)
            shelf.put("r2", {"more": 3})

    data = shelf.export("csv", progress=meanwhile)
    assert [row["score"] for row in records(data)] == ["1"]
    assert {"other", "more"} <= set(records(shelf.export("csv"))[0])


def test_late_new_column_is_refused(shelf: Shelf) -> None:
    shelf.put("r1", {"score": 1})

    def meanwhile(_rows: int) -> None:
        change = Run.__table__.update().values(input={"late": 1})  # type: ignore[attr-defined]
        shelf.database.write(lambda connection: connection.execute(change))

    with pytest.raises(ExportChanged, match="r1"):
        shelf.export("csv", progress=meanwhile)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NASTY = TEXT | st.sampled_from(['"', ",", "\r", "\n", '"\r\n,', "=1", " ", "'", "", "\u2028"])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.dictionaries(NASTY, NASTY, max_size=4), max_size=4))
def test_csv_module_reads_back_what_was_stored(
    scratch: Database, outputs: list[dict[str, str]]
) -> None:
    shelf = Shelf(scratch)
    shelf.clear()
    for number, output in enumerate(outputs):
        shelf.put(f"r{number}", output)
    header, *rows = read(shelf.export("csv", csv=CsvOptions(formula_guard=False)))
    keys = list(dict.fromkeys(key for output in outputs for key in output))
    assert [name.removeprefix("output.") for name in header[5:]] == [
        key.removeprefix("output.") for key in keys
    ]
    assert [row[5:] for row in rows] == [[o.get(key, "") for key in keys] for o in outputs]


def test_output_errors_reach_the_caller(shelf: Shelf) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        ExportStore(shelf.database).write(Selection(), "csv", full)
