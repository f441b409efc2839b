"""Tables as spreadsheets leave them: read the same whatever wrote them, or refused by row."""

import csv
import io
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from receiver.errors import UsageError
from receiver.providers.valyu.provider import Valyu
from receiver.submissions.tasks_file import Separator
from tests.receiver.submissions.tasks_file.conftest import Refusal, read

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
MARKS = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}


@pytest.mark.parametrize(
    ("rows", "left_out"),
    [
        ("company,region,,\r\nAcme,EU,,\r\n", "2 empty columns left out"),
        ("company,,region\nAcme, ,EU\n", "1 empty column left out"),
        ("company,region\r\nAcme,EU\r\n,\r\n , \r\n", "2 empty rows left out"),
        (",\r\ncompany,region\r\nAcme,EU\r\n", "1 empty row left out"),
        ("\n\ncompany,region\n\nAcme,EU\n", "3 empty rows left out"),
        ('company,region\nAcme,EU\n"",""\n', "1 empty row left out"),
    ],
)
def test_empty_rows_and_columns_are_left_out(rows: str, left_out: str) -> None:
    file = read(rows)
    assert [task.input for task in file.tasks] == [{"company": "Acme", "region": "EU"}]
    assert file.summary == f"Read 1 task from t.csv: separated by commas, UTF-8, {left_out}."


def test_single_column_is_named_as_such() -> None:
    file = read('query\nWhat is A?\n""\n', Valyu())
    assert file.summary == "Read 1 task from t.csv: one column, UTF-8, 1 empty row left out."


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["company,", "Acme,EU"], "no name above it in line 1: name the column, or empty it."),
        (["company,region", "Acme,EU,"], "line 2: more cells than the header row has columns."),
        (["company,region", "Acme"], "line 2: fewer cells than the header row has columns."),
        (["company,a,a", "Acme,1,2"], "line 1: the column `a` stands there twice."),
        (["company", "Ac\0me"], "has a NUL in it: take it out."),
        (["comp\0any", "Acme"], "has a NUL in it: take it out."),
        (["company", '"Acme'], "line 2: not valid CSV: unexpected end of data."),
    ],
)
def test_ambiguous_rows_are_refused(refusal: Refusal, rows: list[str], sentence: str) -> None:
    assert sentence in refusal(*rows)


@pytest.mark.parametrize(
    "content",
    ["Acme,EU\nBosch,EU\n", "https://a.test,x\nhttps://b.test,y\n", f"{'word ' * 50}\nshort\n"],
)
def test_header_that_is_data_is_refused(content: str) -> None:
    with pytest.raises(UsageError, match=r"line 1: .*: the first row must name the columns\.$"):
        read(content)


@pytest.mark.parametrize("needed", ["query", "input"])
def test_two_ids_in_a_row_are_refused(needed: str) -> None:
    provider = Valyu() if needed == "query" else None
    with pytest.raises(UsageError, match="line 3: it has both an `id` and a `task_id`"):
        read(f"{needed},id,task_id\nA?,1,\nB?,2,3\n", provider)


@pytest.mark.parametrize("header", ["query,id", "input,id"])
def test_header_in_the_middle_is_refused(header: str) -> None:
    with pytest.raises(UsageError, match="line 3: the header row stands there again"):
        read(f"{header}\none,1\n{header}\n", Valyu() if "query" in header else None)


@pytest.mark.parametrize("again", [" Query,land", "QUERY ,year", "\ufeffquery,land"])
def test_second_table_is_refused(again: str) -> None:
    with pytest.raises(UsageError, match="line 4: the header row stands there again"):
        read(f"query,land\nA?,EU\n,\n{again}\nB?,DE\n", Valyu())


@pytest.mark.parametrize("before", ["\ufeff\ufeff", "\u200b", "\u200b\u2060"])
@pytest.mark.parametrize("header", ["{}company,region", "company,{}region", '{}"company","region"'])
def test_invisible_characters_are_not_of_a_name(before: str, header: str) -> None:
    (task,) = read(f"{header.replace('{}', before)}\nAcme,EU\n").tasks
    assert task.input == {"company": "Acme", "region": "EU"}


def test_line_of_a_row_is_where_it_begins(refusal: Refusal) -> None:
    said = refusal("company", '"two\nlines"', "more,cells")
    assert "line 4: more cells" in said


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(
    rows=st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=5),
    separator=st.sampled_from(Separator),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(ENCODINGS),
    is_declared=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_any_table_is_read_back_the_same(
    rows: list[list[str]],
    separator: Separator,
    line_end: str,
    encoding: str,
    is_declared: bool,
    quoting: Any,
) -> None:
    # csv.writer quotes the line end that it writes, and leaves the other as it is
    bare = {"\r", "\n"} - {*line_end}
    assume(quoting == csv.QUOTE_ALL or not any(bare & {*cell} for row in rows for cell in row))
    out = io.StringIO()
    out.write(f"sep={separator.character}{line_end}" if is_declared else "")
    writer = csv.writer(
        out, delimiter=separator.character, lineterminator=line_end, quoting=quoting
    )
    writer.writerows([["query", "a", "b"], *(["A?", *row] for row in rows)])
    content = MARKS.get(encoding, b"") + out.getvalue().encode(encoding)
    tasks = read(content, Valyu()).tasks
    found = [task.body.get("metadata", {}) for task in tasks]
    assert [[each.get("a", ""), each.get("b", "")] for each in found] == rows
