"""JSON documents: walked without copying what stays, written as json writes them, and politely."""

import json
import threading
import time
from json import encoder
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.json_text import (
    DEEPEST,
    decoded,
    encoded,
    mapped,
    plain_encoder,
    polite_encoder,
)

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(documents)
def test_encoding_equals_json_and_reads_back(value: Any) -> None:
    assert encoded(value) == json.dumps(value)
    assert encoded(value, sort_keys=True) == json.dumps(value, sort_keys=True)
    assert decoded(encoded(value)) == value


def test_unencodable_value_is_refused() -> None:
    with pytest.raises(TypeError, match="a set is no JSON"):
        encoded({"a": {1}})


@pytest.mark.parametrize("sort_keys", [False, True])
def test_private_encoder_of_this_python_is_known(sort_keys: bool) -> None:
    """Where this fails, large documents are still written, but hold up the event loop."""
    assert polite_encoder(sort_keys=sort_keys) is not None


@given(documents, st.booleans())
def test_both_encoders_write_the_same(value: Any, sort_keys: bool) -> None:
    polite, plain = polite_encoder(sort_keys=sort_keys), plain_encoder(sort_keys=sort_keys)
    assert polite is not None
    assert polite(value) == plain(value)


MADE, ASCII = encoder.c_make_encoder, encoder.encode_basestring_ascii  # type: ignore[attr-defined]
CHANGED: dict[str, Any] = {
    "gone": None,
    "other arguments": lambda markers, default: None,
    "other outcome": lambda *_: lambda value, level: None,
    "other text": lambda *given: MADE(*given) if given[2] is ASCII else lambda *_: ("{}",),
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_changed_private_encoder_is_not_used(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(encoder, "c_make_encoder", CHANGED[how])
    assert polite_encoder(sort_keys=False) is None


def test_both_encoders_refuse_the_same() -> None:
    plain = plain_encoder(sort_keys=False)
    with pytest.raises(TypeError, match="a set is no JSON"):
        plain({"a": {1}})
    with pytest.raises(RecursionError):
        plain(nested(100_000))


def text_of(leaf: Any) -> Any:
    return str(leaf) if type(leaf) is int else leaf


@given(documents)
def test_leaves_are_mapped_and_unchanged_ones_shared(value: Any) -> None:
    changed = mapped(value, text_of)
    assert mapped(changed, text_of) is changed
    assert mapped(value, lambda leaf: leaf, keys=lambda key: key) is value
    assert changed == json.loads(json.dumps(value), parse_int=str)


def test_keys_are_mapped_in_order() -> None:
    value = {"a": 1, "b": [{"c": "x"}]}
    assert list(mapped(value, text_of, keys=str.upper)) == ["A", "B"]
    assert mapped(value, text_of) == {"a": "1", "b": [{"c": "x"}]}


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_deep_nesting_is_not_walked() -> None:
    mapped(nested(DEEPEST), text_of)
    with pytest.raises(RecursionError):
        mapped(nested(DEEPEST + 1), text_of)


@pytest.mark.parametrize("work", [encoded, lambda value: decoded(json.dumps(value))])
def test_large_documents_let_other_threads_run(work: Any) -> None:
    large = [{"a": n, "b": "x" * 20, "c": [1, 2], "d": {"e": None}} for n in range(100_000)]
    gaps: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not ended.wait(0.001):
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.monotonic()
    work(large)
    took = time.monotonic() - began
    ended.set()
    ticking.join()
    assert len(gaps) > 5
    assert max(gaps) < took
