"""The rows of a tasks file: where each stands, its cells by name, and how they were found."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = tuple[str, Mapping[str, Any]]
"""A place such as `line 3` or `item 3`, and what a provider makes a task of."""

MAX_SHOWN = 40


class Rows(NamedTuple):
    """Rows, and for the user the form they were in and what was left out."""

    rows: Iterable[Row]
    form: str
    left_out: Sequence[str] = ()


def shown(value: object) -> str:
    """Return a cell as it may stand in a sentence: bounded, without what a terminal acts on."""
    text = str(value)
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


def left_out(number: int, what: str) -> list[str]:
    """Return what to say of so many things that were left out: nothing where there are none."""
    return [f"{number} {what}{'' if number == 1 else 's'} left out"] if number > 0 else []
