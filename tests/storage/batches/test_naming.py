"""Batches by id, by name, and by an unambiguous beginning of either."""

import pytest

from storage import NotFound, Store


@pytest.fixture
def store(store: Store) -> Store:
    """A store with some batches."""
    for source, batch_id, name in (
        ("valyu", "batch_1", "Grid"),
        ("valyu", "batch_12", "Grid storage"),
        ("valyu", "batch_2", "batch_1x"),
        ("other", "group_1", "Twice"),
        ("valyu", "group_2", "Twice"),
        ("other", "batch_2", None),
    ):
        store.batches.register(source, batch_id, endpoint_id=None, name=name)
    return store


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("batch_1", "batch_1"),  # the beginning of two others
        ("Grid", "batch_1"),  # a name, and the beginning of another
        ("Grid s", "batch_12"),
        ("batch_12", "batch_12"),
        ("batch_1x", "batch_2"),
    ],
)
def test_id_goes_before_name_before_beginning(store: Store, given: str, expected: str) -> None:
    assert store.batches.resolve(given, source="valyu").batch_id == expected


def test_source_narrows_the_choice(store: Store) -> None:
    assert store.batches.resolve("Twice", source="other").batch_id == "group_1"
    assert store.batches.resolve("gr", source="valyu").batch_id == "group_2"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nobody", "There is no batch nobody: see `batch list`."),
        ("", "There is no batch : see `batch list`."),
        ("grid", "There is no batch grid: see `batch list`."),  # not by another case
        ("b%", "There is no batch b%: see `batch list`."),
        ("batch_2", "Several sources have a batch batch_2: add --source (other, valyu)."),
        (
            "Twice",
            "Twice may be any of 2 batches: group_2 (Twice), group_1 (Twice). "
            "Give an id, or more of it.",
        ),
        (
            "batch",
            "batch may be any of 4 batches: batch_2, batch_2 (batch_1x), batch_12 (Grid storage), "
            "batch_1 (Grid). Give an id, or more of it.",
        ),
    ],
)
def test_unclear_name_lists_the_candidates(store: Store, given: str, said: str) -> None:
    with pytest.raises(NotFound) as raised:
        store.batches.resolve(given)
    assert str(raised.value) == said


def test_long_list_of_candidates_is_cut(store: Store) -> None:
    for number in range(9):
        store.batches.register("valyu", f"many_{number}", endpoint_id=None)
    with pytest.raises(NotFound, match=r"any of 9 batches: many_8, .*, many_4 and 4 more\."):
        store.batches.resolve("many")
