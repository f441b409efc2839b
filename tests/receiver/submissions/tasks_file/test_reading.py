"""Tasks files: what each format brings, and one sentence with file and line for what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from receiver.errors import UsageError
from receiver.providers.model import NewTask
from receiver.providers.valyu.provider import Valyu
from receiver.submissions.tasks_file import read_tasks


def read(name: str, content: str | bytes) -> list[NewTask]:
    """The tasks of a file in the working directory."""
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(data)
    return read_tasks(Path(name), Valyu()).tasks


def queries(name: str, content: str | bytes) -> list[Any]:
    return [task.body["query"] for task in read(name, content)]


def refusal(name: str, content: str | bytes) -> str:
    with pytest.raises(UsageError) as raised:
        read(name, content)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "query,id\none,a\ntwo,b\n"),
        ("t.csv", "query,id\r\none,a\r\n\r\ntwo,b"),
        ("t.csv", "\ufeffquery,id\none,a\ntwo,b\n"),
        ("T.CSV", 'query,id\n"one","a"\ntwo,b\n'),
        ("t.csv", " Query , ID\none,a\ntwo,b\n"),
        ("t.csv", '"QUERY","Task_Id"\r\n"one","a"\r\n"two","b"\r\n'),
        ("t.csv", "query,id\rone,a\rtwo,b\r"),
        ("t.jsonl", '{"query": "one", "id": "a"}\r\r{"query": "two", "id": "b"}\r'),
        ("t.json", '[{"query": "one", "id": "a"}, {"query": "two", "task_id": "b"}]'),
        ("t.json", '\ufeff[{"query": "one", "id": "a"}, {"query": "two", "id": "b"}]'),
        ("t.jsonl", '{"query": "one", "id": "a"}\n\n{"query": "two", "id": "b"}'),
        ("t.ndjson", '\ufeff{"query": "one", "id": "a"}\r\n{"query": "two", "id": "b"}\r\n'),
    ],
)
def test_each_format_brings_the_same_tasks(name: str, content: str) -> None:
    tasks = read(name, content)
    assert [(task.task_id, task.body["query"]) for task in tasks] == [("a", "one"), ("b", "two")]


def test_quoted_cell_may_hold_anything() -> None:
    assert queries("t.csv", 'query\n"one, ""two""\nthree"\n') == ['one, "two"\nthree']


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0c", "\x1e"])
def test_only_line_ends_end_csv_rows(odd: str) -> None:
    assert queries("t.csv", f"query\none{odd}two\n") == [f"one{odd}two"]


def test_unknown_columns_travel_as_metadata() -> None:
    (task,) = read("t.csv", "query,row,empty\none,7,\n")
    assert task.body == {"query": "one", "metadata": {"row": "7"}}
    assert task.input == {"query": "one", "row": "7"}


def test_user_columns_keep_their_case() -> None:
    (task,) = read("t.csv", "QUERY, Row ,Metadata\none,7,x\n")
    assert task.body == {"query": "one", "metadata": {"Row": "7", "Metadata": "x"}}


def test_json_metadata_joins_further_columns() -> None:
    (task,) = read("t.json", '[{"query": "one", "metadata": {"a": 1}, "row": 7}]')
    assert task.body["metadata"] == {"a": 1, "row": 7}


def test_known_fields_are_sent_as_such() -> None:
    (task,) = read("t.csv", "query,urls,research_strategy\none,https://a https://b,slowly\n")
    assert task.body["urls"] == ["https://a", "https://b"]
    assert task.body["research_strategy"] == "slowly"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.txt", "query\none\n", "t.txt: write the tasks as .csv, .tsv, .json or .jsonl."),
        ("t.csv", "", "t.csv, line 1: the header row has no column `query`."),
        ("t.csv", "id,question\n", "t.csv, line 1: the header row has no column `query`."),
        ("t.csv", "query\n", "t.csv has no tasks: write at least one row."),
        (
            "t.csv",
            "query,Query\na,b\n",
            "t.csv, line 1: the column `query` stands there twice.",
        ),
        ("t.csv", "query,query\na,b\n", "t.csv, line 1: the column `query` stands there twice."),
        ("t.csv", "query,id\none,a\n,b\n", "t.csv, line 3: `query` is missing or empty."),
        ("t.csv", "query,id\none,a\n  ,b\n", "t.csv, line 3: `query` is missing or empty."),
        (
            "t.csv",
            "query,id\none,a\ntwo,b,c\n",
            "t.csv, line 3: more cells than the header row has columns.",
        ),
        (
            "t.csv",
            "query,id\none\n",
            "t.csv, line 2: fewer cells than the header row has columns.",
        ),
        ("t.csv", "query,id\none,a\ntwo,a\n", "t.csv, line 3: id 'a' stands in line 2 already."),
        ("t.csv", "query,metadata\na,b\n", "t.csv, line 2: `metadata` must be a JSON object."),
        (
            "t.csv",
            f"query\n{'x' * 25_001}\n",
            "t.csv, line 2: `query` has 25001 characters; 25000 are allowed.",
        ),
        (
            "t.json",
            "",
            "t.json, line 1: not valid JSON: Expecting value at column 1.",
        ),
        ("t.json", "[]", "t.json has no tasks: write at least one row."),
        ("t.json", '{"query": "one"}', "t.json, line 1: the tasks must be a JSON list of objects."),
        (
            "t.json",
            '[{"query": "one"}, "two"]',
            "t.json, item 2: a task must be a JSON object.",
        ),
        ("t.json", '[{"query": "one"}, {}]', "t.json, item 2: `query` is missing or empty."),
        ("t.json", '[{"query": 5}]', "t.json, item 1: `query` is missing or empty."),
        (
            "t.json",
            '[{"query": "one"},]',
            "t.json, line 1: not valid JSON: Expecting value at column 19.",
        ),
        ("t.jsonl", "", "t.jsonl has no tasks: write at least one row."),
        (
            "t.jsonl",
            '{"query": "one"}\n{"query": }\n',
            "t.jsonl, line 2: not valid JSON: Expecting value at column 11.",
        ),
        (
            "t.jsonl",
            '{"query": "one"}\n[]\n',
            "t.jsonl, line 2: a task must be a JSON object.",
        ),
        (
            "t.json",
            '[{"query": "a"}, {"query": "a", "y": [{"x": 1, "x": 2}]}]',
            "t.json, item 2: the name 'x' stands in one object twice.",
        ),
        ("t.json", '[{"query": "a", " ": 1}]', "t.json, item 1: the value '1' has no name."),
        (
            "t.json",
            '{"query": "a"}\n{"query": "b"}\n',
            "t.json, line 2: not valid JSON: Extra data at column 1: "
            "name it .jsonl if each line is a task.",
        ),
        (
            "t.jsonl",
            '[\n{"query": "a"}]',
            "t.jsonl, line 1: not valid JSON: Expecting value at column 2: "
            "name it .json if it is one list of tasks.",
        ),
        (
            "t.jsonl",
            '{"query": "a"},\n{"query": "b"}',
            "t.jsonl, line 1: not valid JSON: Extra data at column 15: "
            "take the comma at the end away.",
        ),
        (
            "t.jsonl",
            '{"query": "a", "id": 1}\n{"query": "b", "id": "1"}',
            "t.jsonl, line 2: id '1' stands in line 1 already.",
        ),
    ],
)
def test_errors_name_file_and_line(name: str, content: str | bytes, sentence: str) -> None:
    assert refusal(name, content) == sentence


@pytest.mark.parametrize("rest", ['"one"x', '"one', '"one"\n"two"x'])
def test_broken_csv_names_the_line(rest: str) -> None:
    lines = rest.count("\n") + 2
    assert refusal("t.csv", f"query\n{rest}\n").startswith(f"t.csv, line {lines}: not valid CSV: ")


@pytest.mark.parametrize(
    "number",
    [
        "900719925474099312345678901234567890.5",
        "1E400",
        "-1e-400",
        "1e-9999999999999999999",
        "9" * 5000,
    ],
)
def test_number_that_would_change_is_refused(number: str) -> None:
    row = f'{{"query": "a", "n": [{{"x": {number}}}]}}'
    shown = number if len(number) <= 40 else f"{number[:40]}..."
    sentence = f"the number '{shown}' would be rounded or lost: write it as text, in quotes."
    assert refusal("t.json", f"[{row}]") == f"t.json, item 1: {sentence}"
    assert refusal("t.jsonl", f"\n{row}") == f"t.jsonl, line 2: {sentence}"


@pytest.mark.parametrize("number", ["0.1", "1.50", "2E3", "-0.0", "9007199254740993", "5e-324"])
def test_numbers_are_kept(number: str) -> None:
    (task,) = read("t.json", f'[{{"query": "a", "n": {number}}}]')
    assert task.input["n"] == json.loads(number)


@pytest.mark.parametrize("depth", [900, 5000])
def test_deep_nesting_is_refused(depth: int) -> None:
    said = refusal("t.jsonl", f'{{"query": "a", "n": {"[" * depth}{"]" * depth}}}')
    assert said == "t.jsonl, line 1: it is nested too deeply."


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"', "[" * 100_000 + "]" * 100_000])
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_unsendable_text_refused_by_line(name: str, value: str) -> None:
    row = f'{{"query": "a", "n": {value}}}'
    assert refusal(name, f"[{row}]" if name == "t.json" else row).startswith(name)


def test_missing_file_and_folder_are_named() -> None:
    Path("folder.csv").mkdir()
    for name, sentence in [
        ("none.csv", "none.csv does not exist."),
        ("folder.csv", "folder.csv cannot be read: Is a directory."),
    ]:
        with pytest.raises(UsageError) as raised:
            read_tasks(Path(name), Valyu())
        assert str(raised.value) == sentence


def test_thousands_of_tasks_keep_their_order() -> None:
    rows = [{"query": f"q{number}"} for number in range(5000)]
    assert queries("t.json", json.dumps(rows)) == [row["query"] for row in rows]
