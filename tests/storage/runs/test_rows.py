"""The row of a fetched run, made before its transaction: its digest, and the chunks of a page."""

from typing import Any

import pytest

from storage import FetchedRun
from storage.json_text import encoded
from storage.runs.rows import chunks_of, row_of
from tests.storage.build import NOON, run

SIGNED = "https://files.example/report.pdf?signature="
CHART = "# Report\n\n![chart](https://files.example/1.png?token="


@pytest.mark.parametrize(
    "other",
    [
        {"output": {"pdf": SIGNED + "2", "list": [SIGNED + "3"], "report": CHART + "2)"}},
        {"cost": 0.7},
        {"raw": {"messages": ["anything"]}},
        {"completed_at": NOON},
        {"input": {"query": "echo"}},
        {"runner": "fast"},
    ],
)
def test_volatile_fields_do_not_change_digest(other: dict[str, Any]) -> None:
    before = run(output={"pdf": SIGNED + "1", "list": [SIGNED + "1"], "report": CHART + "1)"})
    values: dict[str, Any] = {"output": before.output, **other}
    assert row_of(run(**values)).digest == row_of(before).digest


@pytest.mark.parametrize(
    "other",
    [
        {"output": {"text": "another"}},
        {"output": {"text": "https://b.example/ says what? this"}},
        {"output": {"text": "https://a.example/ says what? that"}},
        {"sources": [{"url": "https://b.example/"}]},
        {"error": "timeout"},
        {"status": "failed"},
    ],
)
def test_content_fields_change_the_digest(other: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        "output": {"text": "https://a.example/ says what? this"},
        "sources": [{"url": "https://a.example/"}],
    }
    before = row_of(run(**values)).digest
    assert row_of(run(**{**values, **other})).digest != before


def test_raw_keeps_what_cleaning_removed() -> None:
    output = {"b": ["x\x00", float("inf")], "a": "é"}
    row = row_of(run(output=output, sources=[1], raw={"output": output, "sources": [1]}))
    assert row.output == encoded({"b": ["x\ufffd", None], "a": "é"})
    assert (row.sources, row.cleaned) == ("[1]", True)
    assert row.raw == encoded({"output": output, "sources": [1]})


def test_unstorable_run_keeps_its_top_level() -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    row = row_of(run(output=deep, raw={"id": "run-1", "output": deep}))
    assert (row.output, row.raw, row.cleaned) == (None, '{"id": "run-1"}', True)


def test_key_order_does_not_change_digest() -> None:
    one, other = run(output={"a": 1, "b": 2}), run(output={"b": 2, "a": 1})
    assert row_of(one).digest == row_of(other).digest


# --- chunks -------------------------------------------------------------------------------------


def sizes(*page: FetchedRun) -> list[tuple[int, bool]]:
    return [(len(chunk.rows), chunk.is_last) for chunk in chunks_of(page)]


def test_page_is_split_by_rows_and_bytes() -> None:
    assert sizes() == [(0, True)]
    many = [run(str(number)) for number in range(1_001)]
    assert sizes(*many) == [(500, False), (500, False), (1, True)]
    large = [run(str(number), raw={"x": "x" * 1_500_000}) for number in range(3)]
    assert sizes(*large) == [(2, False), (1, True)]
    giant = run("giant", raw={"x": "x" * 5_000_000})
    assert sizes(many[0], giant, many[1]) == [(1, False), (1, False), (1, True)]
