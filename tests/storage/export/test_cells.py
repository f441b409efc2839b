"""The formula guard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.export.cells import guarded

FULL_WIDTH = "\uff1d\uff0b\uff0d\uff20"  # = + - @
RUN = ["=1+1", "+a", "-a", "@SUM(A1)", "\t1", "\r1", "\n1", *(sign + "1" for sign in FULL_WIDTH)]
RUN_BEHIND_BLANKS = ["  =1", "\u00a0=1", "\u3000=1", "\ufeff=1"]
NEARLY_NUMBERS = ["-", "+-5", "-5 ", " -5", "-5+cmd", "-\u0663", "-1e", "=-5", "--5"]
HARMLESS = ["", "a=1", "1-2", "é", "'=1", '"=1', "{=1}", "  a", "#-1", "$5", "(5)"]
NUMBERS = ["-5", "+5", "-5.25", "+1.5e3", "-1E-9", "5"]


@pytest.mark.parametrize("text", [*RUN, *RUN_BEHIND_BLANKS, *NEARLY_NUMBERS])
def test_cells_a_spreadsheet_runs_get_a_quote(text: str) -> None:
    assert guarded(text) == "'" + text


@pytest.mark.parametrize("text", [*HARMLESS, *NUMBERS])
def test_other_text_and_plain_numbers_stay(text: str) -> None:
    assert guarded(text) == text


@given(st.text(st.sampled_from("=+-@" + FULL_WIDTH + "\t 1e.a'") | st.characters()))
def test_unguarded_formula_starts_are_numbers(text: str) -> None:
    kept = guarded(text)
    if kept.lstrip()[:1] in tuple("=+-@" + FULL_WIDTH):
        float(kept)
