"""Names of columns: stable, and never two alike."""

from hypothesis import given
from hypothesis import strategies as st

from storage.export.cells import guarded, unguarded
from storage.export.columns import FIXED, Columns

CLASHING = [
    *("name", "status", "output.name", "input.name", "output.output.name", "input.status"),
    *("=a", "'=a", "output.=a", "output.'=a", ""),
]
KEYS = st.lists(st.sampled_from(CLASHING) | st.text(max_size=2))


def columns(inputs: list[str], outputs: list[str]) -> Columns:
    found = Columns()
    found.add(dict.fromkeys(inputs), dict.fromkeys(outputs))
    return found


def test_names_without_clash_stay() -> None:
    assert columns(["q", "p"], ["a"]).names(unguarded) == (*FIXED, "q", "p", "a")


def test_only_clashing_names_get_a_prefix() -> None:
    found = columns(["name", "q"], ["a", "name", "runner"])
    expected = ("input.name", "q", "a", "output.name", "output.runner")
    assert found.names(unguarded)[5:] == expected


def test_key_equal_to_guarded_one_is_distinguished() -> None:
    assert columns([], ["=a", "'=a"]).names(guarded)[5:] == ("output.=a", "output.'=a")


@given(KEYS, KEYS)
def test_names_are_unique_in_key_order(inputs: list[str], outputs: list[str]) -> None:
    names = columns(inputs, outputs).names(guarded)
    keys = [*dict.fromkeys(inputs), *dict.fromkeys(outputs)]
    assert len(set(names)) == len(names) == 5 + len(keys)
    assert names[:5] == FIXED
    assert all(name.endswith(key) for name, key in zip(names[5:], keys, strict=True))


@given(KEYS, KEYS)
def test_names_ignore_the_order_of_keys(inputs: list[str], outputs: list[str]) -> None:
    one, other = columns(inputs, outputs), columns(inputs[::-1], outputs[::-1])
    assert set(one.names(guarded)) == set(other.names(guarded))
