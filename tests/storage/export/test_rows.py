"""Which results are exported, in which order, as of when."""

import json
import re
from typing import Any

import pytest
from sqlalchemy import Engine, event

from storage.export import FORMATS, Selection, rows
from tests.storage.export.conftest import Shelf


def run_ids(shelf: Shelf, selection: Selection | None = None, **options: Any) -> list[str]:
    data = shelf.export("jsonl", selection, **options)
    return [json.loads(line)["run_id"] for line in data.splitlines()]


def test_unknown_format_or_status_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ValueError, match="csv, json, jsonl"):
        shelf.export("xml")
    with pytest.raises(ValueError, match="queued"):
        Selection(status="queued")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["a", "b", "c", "d"]),
        (Selection(status="completed"), ["a", "d"]),
        (Selection(status="failed"), ["b", "c"]),
        (Selection(source="valyu"), ["a", "b", "c"]),
        (Selection(batch_id="one"), ["a", "b", "d"]),
        (Selection(source="valyu", batch_id="one"), ["a", "b"]),
        (Selection(source="valyu", batch_id="one", status="failed"), ["b"]),
        (Selection(source="nobody"), []),
        (Selection(source="valyu", run_id="b"), ["b"]),
        (Selection(run_id="b", status="completed"), []),
        (Selection(source="nobody", run_id="b"), []),
    ],
)
def test_a_selection_narrows(shelf: Shelf, selection: Selection, expected: list[str]) -> None:
    shelf.put("a", batch_id="one")
    shelf.put("b", batch_id="one", status="failed")
    shelf.put("c", batch_id="two", status="cancelled")
    shelf.put("d", batch_id="one", source="parallel")
    assert run_ids(shelf, selection) == expected


def test_run_without_result_is_no_row(shelf: Shelf) -> None:
    shelf.run("a", status="running")
    assert run_ids(shelf) == []


def test_only_the_current_version_is_exported(shelf: Shelf) -> None:
    shelf.put("a", "old")
    shelf.put("a", "new", version=2)
    assert json.loads(shelf.export("jsonl"))["output"] == "new"


def test_pages_join_without_gap_or_repeat(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_ROWS", 3)
    names = [f"r{number * 7 % 11}" for number in range(11)]
    for name in names:
        shelf.run(f"open-{name}", status="queued")
        shelf.put(name)
    shown: list[int] = []
    assert run_ids(shelf, progress=shown.append) == names
    assert shown == sorted(shown)
    assert shown[-1] == 11


def test_giant_results_make_small_pages(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_CHARACTERS", 100)
    for name in "abc":
        shelf.put(name, "x" * 200)
    shown: list[int] = []
    assert run_ids(shelf, progress=shown.append) == ["a", "b", "c"]
    assert shown == [1, 2, 3]


@pytest.mark.parametrize("format", FORMATS)
def test_a_version_stored_meanwhile_changes_nothing(
    shelf: Shelf, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PAGE_ROWS", 1)
    for name in "abc":
        shelf.put(name, {"before": 1})
    expected = shelf.export(format)
    versions = iter(range(2, 10))

    def meanwhile(_rows: int) -> None:
        version = next(versions)
        shelf.put("c", {"after": version}, version=version)
        shelf.put(f"new-{version}", {"late": 1})

    assert shelf.export(format, progress=meanwhile) == expected


@pytest.mark.parametrize("source", [None, "valyu"])
@pytest.mark.parametrize("batch_id", [None, "one"])
@pytest.mark.parametrize("status", ["all", "completed"])
@pytest.mark.parametrize("run_id", [None, "a"])
def test_no_page_sorts_or_scans(
    shelf: Shelf, source: str | None, batch_id: str | None, status: Any, run_id: str | None
) -> None:
    """A page that sorted or scanned all runs would make the whole export quadratic.

    SQLite may sort those of a range of ids, which is one page.
    """
    plans: list[list[str]] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "ORDER BY" not in statement:
            return
        cursor = connection.connection.cursor()
        if shelf.database.is_shared:  # with so few rows, unless it has no other way
            for way in ("seqscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
            cursor.execute(f"EXPLAIN {statement}", parameters)
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.append([row[-1] for row in cursor.fetchall()])

    shelf.put("a", batch_id="one")
    event.listen(Engine, "before_cursor_execute", explain)
    try:
        assert run_ids(shelf, Selection(source, batch_id, status, run_id)) == ["a"]
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    assert plans
    for plan in plans:
        assert not re.search("^SCAN|Seq Scan|Sort", "\n".join(plan), re.MULTILINE)
        assert "TEMP B-TREE" not in plan[-1] or re.search(r">\? AND \w+<\?", plan[0])
