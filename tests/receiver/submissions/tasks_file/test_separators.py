"""Which separator a file has: proven by a column, declared by Excel, told, or refused."""

import re
from typing import get_args

import pytest

from receiver.cli.batch.create import SeparatorName
from receiver.errors import UsageError
from receiver.providers.parallel.provider import Parallel
from receiver.providers.parallel_v0.provider import ParallelV0
from receiver.providers.valyu.provider import Valyu
from receiver.submissions.tasks_file import Separator
from tests.receiver.submissions.tasks_file.conftest import read


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("query;region\r\nA?;EU\r\n", "separated by semicolons, UTF-8"),
        ("sep=;\r\nquery;region\r\nA?;EU\r\n", "separated by semicolons, UTF-8"),
        ('"sep=,"\nquery,region\nA?,EU\n', "separated by commas, UTF-8"),
        ("query\tregion\nA?\tEU\n", "separated by tabs, UTF-8"),
        ("query|region\nA?|EU\n", "separated by bars, UTF-8"),
        ('"region";"Query"\n"EU";"A?"\n', "separated by semicolons, UTF-8"),
        ("query,region; and more\nA?,EU\n", "separated by commas, UTF-8"),
        ("region, and more;query\nEU;A?\n", "separated by semicolons, UTF-8"),
        (
            ";;\r\nquery;region;\r\nA?;EU;\r\n;;\r\n",
            "2 empty rows left out, 1 empty column left out",
        ),
    ],
)
def test_needed_column_proves_the_separator(content: str, form: str) -> None:
    file = read(content, Valyu())
    assert [task.body["query"] for task in file.tasks] == ["A?"]
    assert "EU" in file.tasks[0].body["metadata"].values()
    assert re.fullmatch(rf"Read 1 task from t\.csv: .*{form}\.", file.summary)


@pytest.mark.parametrize("header", ["id;company", "company;ID", "processor\tcompany"])
def test_known_column_proves_it_for_parallel(header: str) -> None:
    (task,) = read(f"{header}\n{re.sub('[a-zA-Z]+', 'x', header)}\n").tasks
    assert task.body["input"] == {"company": "x"}


@pytest.mark.parametrize("provider", [Parallel(), ParallelV0()])
@pytest.mark.parametrize(
    "content",
    [
        "company;region\r\nAcme;EU\r\n",
        "sep=;\r\ncompany;region\r\nAcme;EU\r\n",
        "company\tregion\r\nAcme\tEU\r\n",
        "company;region\nAcme, Inc.;EU\n",
    ],
)
def test_unproven_separator_must_be_told(content: str, provider: Parallel | ParallelV0) -> None:
    with pytest.raises(UsageError, match=r"add --separator \w+\.$") as refused:
        read(content, provider)
    told = Separator(str(refused.value).rstrip(".").rpartition(" ")[2])
    (task,) = read(content, provider, separator=told).tasks
    assert (set(task.input), task.input["region"]) == ({"company", "region"}, "EU")


def test_excel_s_own_comma_needs_no_proof() -> None:
    (task,) = read("sep=,\ncompany,a;b\nAcme,EU;US\n").tasks
    assert task.input == {"company": "Acme", "a;b": "EU;US"}


@pytest.mark.parametrize("query", ["What is A; and B?", "A|B?", "A\tB?", "sep=;"])
def test_single_column_may_hold_anything(query: str) -> None:
    assert [task.body["query"] for task in read(f"query\n{query}\n", Valyu()).tasks] == [query]
    assert [task.body["input"] for task in read(f"input\n{query}\n").tasks] == [query]


def test_rows_that_fit_decide_between_two() -> None:
    (task,) = read("company;x,region\nAcme;a;b,EU\n").tasks
    assert task.input == {"company;x": "Acme;a;b", "region": "EU"}


@pytest.mark.parametrize("content", ["company\tregion\nA, B\tEU\n", "company\ta,b\nA, B\tEU\n"])
def test_tabs_need_no_proof_in_tsv(content: str) -> None:
    (task,) = read(content, name="t.tsv").tasks
    assert list(task.input.values()) == ["A, B", "EU"]


@pytest.mark.parametrize(
    "separator", [",", ";", "|", "\uff0c", "\uff1b", "\uff5c", "\u3001", "\u060c", "\u061b"]
)
@pytest.mark.parametrize("last", ["", "\t"])
def test_tsv_without_tabs_is_not_one_column(separator: str, last: str) -> None:
    with pytest.raises(UsageError, match=r"t\.tsv, line 1: .* seems? to be s.* --separator "):
        read(f"company{separator}region{last}\nAcme{separator}EU{last}\n", name="t.tsv")
    read(f"company{separator}region\nA\n", name="t.tsv", separator=Separator.tab)


def test_known_column_proves_commas_in_tsv() -> None:
    (task,) = read("query,region\nA?,EU\n", Valyu(), name="t.tsv").tasks
    assert task.input == {"query": "A?", "region": "EU"}


@pytest.mark.parametrize("header", ["question;price", "question;a,b", "query\uff0cland"])
def test_missing_column_is_said_first(header: str) -> None:
    with pytest.raises(UsageError, match="line 1: the header row has no column `query`"):
        read(f"{header}\n{header}\n", Valyu())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "query\uff0cland\na\uff0cb\n",
            "line 1: the only column, 'query\uff0cland', seems to be several",
        ),
        (
            "query\u061bland\na\u061bb\n",
            "line 1: the only column, 'query\u061bland', seems to be several",
        ),
        (
            "a;b,c\n1;2,3\n",
            "line 1: the columns may be separated by commas or semicolons: say",
        ),
        ('"a;b"\n"1;2"\n', "line 1: the only column, 'a;b', seems to be several with semicolons"),
        ("sep=;;\na;b\n1;2\n", "line 1: 'sep=;;' names no separator that can be read"),
        ("sep=\na;b\n1;2\n", "line 1: 'sep=' names no separator"),
        ("sep=;,\na;b,\n1;2,\n", "line 1: 'sep=;,' names no separator"),
        ("id;a\n1;2;3\n", "line 2: more cells than the header row has columns."),
    ],
)
def test_undecided_separator_is_refused(content: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"t.csv, {sentence}")):
        read(content)


def test_told_separator_is_not_declared_another() -> None:
    with pytest.raises(UsageError, match="line 1: it says that semicolons separate, not tabs"):
        read("sep=;\na;b\n", separator=Separator.tab)


def test_command_takes_every_separator() -> None:
    assert get_args(SeparatorName) == tuple(Separator)
