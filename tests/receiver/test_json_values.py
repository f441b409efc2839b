"""Strict where identity hangs on it, lenient everywhere else, and total in both."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.json_values import (
    DEEPEST,
    counted,
    items,
    leniently,
    moment,
    number,
    strictly,
    text,
    whole,
    word,
)

IDENTITY = frozenset({"id", "status"})
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NO_WORDS: list[Any] = ["", "x" * 201, "a b", "a\n", "a\x00", "ä", "\ud800", None, 5, True, [], {}]
NO_NUMBERS: list[Any] = [True, None, [], {}, *map(json.loads, ("1e999", "-1e999", "9" * 400))]
NO_COUNTS: list[Any] = ["", "-1", "+1", "1.0", "1e3", " 5", "5\n", "\u0665", "\u00b2", "9" * 16]
NO_MOMENTS: list[Any] = ["", "soon", "2026-13-01", "0001-01-01T00:00:00+23:00", None, True, [], {}]
FAR_MOMENTS: list[Any] = [-1e300, 1e300, 10**400]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"id"',
        b"[]",
        b'{"id": 1',
        b'{"a": NaN}',
        b'{"a": [-Infinity]}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"id": "a", "id": "b"}',
        b'{"id": "a", "\\u0069d": "b"}',
        b'{"x": {"status": 1, "status": 1}}',
        b'\xff\xfe{"id": 1}',
        b'{"id": "\xff"}',
        '{"id": "a"}'.encode("utf-16-le"),
    ],
    ids=lambda body: body[:20],
)
def test_untrustworthy_body_is_unreadable(body: bytes) -> None:
    assert strictly(body, IDENTITY) is None


@pytest.mark.parametrize(
    "body", [b'{"id": "a", "other": 1, "other": 2}', b'{"id": "a", "x": {"id": "b"}}']
)
def test_repeated_keys_outside_the_identity_are_allowed(
    body: bytes,
) -> None:
    assert strictly(body, IDENTITY) == json.loads(body)


def test_byte_order_mark_is_left_out_once() -> None:
    marked = b'\xef\xbb\xbf{"id": "a"}'
    assert strictly(marked, IDENTITY) == leniently(marked) == {"id": "a"}
    assert strictly(marked[:3] + marked, IDENTITY) is None


@given(values)
def test_ordinary_objects_read_like_json_loads(value: Any) -> None:
    body = json.dumps({"a": value}).encode()
    read = strictly(body, IDENTITY)
    assert read is None or read == json.loads(body)
    if read is None:
        assert any(word in body for word in (b"NaN", b"Infinity"))


@given(st.binary())
def test_reading_is_total(body: bytes) -> None:
    strictly(body, IDENTITY)
    try:
        leniently(body)
    except ValueError:
        return


def test_nan_and_infinity_become_none() -> None:
    assert leniently(b'{"cost": NaN, "x": [Infinity]}') == {"cost": None, "x": [None]}


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", b"\xff", b"[" * 100_000, b"[" * 5_000 + b'"\\"'],
    ids=["a page", "nothing", "no text", "no end", "no end of a text"],
)
def test_answer_without_json_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  json's own errors are among them
        leniently(body)


def test_oversized_numbers_and_deep_nesting_become_text() -> None:
    assert leniently(b'{"n": -%b, "m": 7}' % (b"9" * 5_000)) == {"n": "-" + "9" * 5_000, "m": 7}
    levels = 5_000
    deep = b'{"a]": [' * levels + b"1" + b"]}" * levels
    found: Any = leniently(b'{"deep": %b, "beside": [1]}' % deep)
    assert found["beside"] == [1]
    for level in range(DEEPEST - 1):
        found = found["deep"] if level == 0 else found[0] if level % 2 == 0 else found["a]"]
    inner = json.dumps(found).replace("\\", "")
    assert (deep.decode().count("{"), inner.count("{")) == (levels, levels - DEEPEST // 2 + 1)


def test_control_characters_in_text_are_kept() -> None:
    assert leniently(b'{"report": "one\ntwo\x01"}') == {"report": "one\ntwo\x01"}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("batch_1", "batch_1"),
        ("x" * 200, "x" * 200),
        *((bad, None) for bad in NO_WORDS),
    ],
)
def test_words_are_bounded_printable_ascii(value: Any, read: str | None) -> None:
    assert word(value) == read


@pytest.mark.parametrize(
    ("value", "as_number", "as_count"),
    [
        (5, 5.0, 5),
        (0.15625, 0.15625, None),
        (5.0, 5.0, 5),
        (-1, -1.0, None),
        ("5", None, 5),
        ("0", None, 0),
        ("007", None, 7),
        ("9" * 15, None, 10**15 - 1),
        *((bad, None, None) for bad in NO_NUMBERS + NO_COUNTS),
    ],
)
def test_numbers_are_finite_and_counts_are_whole(
    value: Any, as_number: float | None, as_count: int | None
) -> None:
    assert (number(value), whole(value)) == (as_number, as_count)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-11-22T12:00:00.000Z", NOON),
        ("2026-11-22T14:00:00+02:00", NOON),
        ("2026-11-22T12:00:00", NOON),
        (NOON.timestamp(), NOON),
        (int(NOON.timestamp() * 1000), NOON),
        (200_000_000_000, datetime(1976, 5, 3, 19, 33, 20, tzinfo=UTC)),
        *((bad, None) for bad in NO_MOMENTS + FAR_MOMENTS),
    ],
)
def test_moments_are_utc_in_every_notation(value: Any, read: datetime | None) -> None:
    found = moment(value)
    assert found == read
    assert found is None or found.tzinfo == UTC


@given(values)
def test_every_reader_takes_every_value(value: Any) -> None:
    found = moment(value)
    assert found is None or found.utcoffset() == timedelta()
    assert text(value) is None or value
    assert all(isinstance(item, dict) for item in items(value))
    assert (word(value) is None) or word(value) == value
    assert whole(value) is None or whole(value) == (int(value) if isinstance(value, str) else value)


def test_items_and_counted_leave_out_other_values() -> None:
    assert list(items([{"a": 1}, None, "x", [], {}])) == [{"a": 1}, {}]
    assert list(items({"a": {}})) == []
    assert counted({"a": 1, "b": "2", "c": "x", "d": -1, "e": None}) == {"a": 1, "b": 2}
    assert counted([1]) == {}


def test_zones_are_converted_to_utc() -> None:
    zone = timezone(timedelta(hours=-9))
    assert moment(NOON.astimezone(zone).isoformat()) == NOON
