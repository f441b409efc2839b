"""The formula guard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.export.cells import guarded


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+a", "-a", "@SUM(A1)", "\t1", "\r1", "\n1"]  # as spreadsheets run or skip them
    + ["＝1", "＋a", "－a", "＠a", "  =1", "\u00a0=1", "\u3000=1", "\ufeff=1"]
    + ["-", "+-5", "-5 ", " -5", "-5+cmd", "-٣", "-1e", "=-5", "--5"],
)
def test_what_a_spreadsheet_could_run_gets_a_quote(text: str) -> None:
    assert guarded(text) == "'" + text


@pytest.mark.parametrize(
    "text",
    ["", "a=1", "1-2", "é", "'=1", '"=1', "{=1}", "  a", "#-1", "$5", "(5)"]
    + ["-5", "+5", "-5.25", "+1.5e3", "-1E-9", "5"],
)
def test_other_text_and_plain_numbers_stay(text: str) -> None:
    assert guarded(text) == text


@given(st.text())
def test_no_guarded_text_starts_a_formula_unless_it_is_a_number(text: str) -> None:
    start = guarded(text).lstrip()[:1]
    if start in {*"=+-@＝＋－＠"} - {""}:
        float(guarded(text))
