"""Cutting streamed answers: however the bytes come, the items are the same, or there are none."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import Unavailable, Unreadable
from receiver.sender_api.stream_parsers import (
    CsvRows,
    JsonDocuments,
    ServerSentEvents,
    StreamParser,
)

Cuts = Sequence[int]

cuts = st.lists(st.integers(0, 400), max_size=8)
words = st.text(st.sampled_from("ab é\"'\\,;:\r\n\t[]{}=\u2028😀"), max_size=6)
values = (
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | words
)
objects = st.dictionaries(words, values | st.lists(values, max_size=3), max_size=4)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])
boms = st.sampled_from([b"", b"\xef\xbb\xbf"])


def cut(parser: StreamParser, body: bytes, places: Cuts = ()) -> list[Any]:
    """The items of a body that comes in pieces, cut at these places."""
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    found = []
    for start, end in pairwise(edges):
        found += fed(parser, body[start:end])
    return [*found, *parsed(parser, parser.end())]


def fed(parser: StreamParser, chunk: bytes) -> list[Any]:
    """The items that a chunk completes."""
    return list(parsed(parser, parser.feed(chunk)))


def parsed(parser: StreamParser, pieces: Iterator[bytes]) -> Iterator[Any]:
    for piece in pieces:
        yield from parser.parse(piece, politely=bool(len(piece) % 2))


def one_by_one(parser: StreamParser, body: bytes) -> list[Any]:
    """The items of a body that comes byte by byte."""
    return cut(parser, body, range(len(body)))


def refusal(parser: StreamParser, body: bytes, places: Cuts = ()) -> str:
    with pytest.raises(Unavailable) as raised:
        cut(parser, body, places)
    return str(raised.value)


# --- server-sent events -------------------------------------------------------------------------


def event(item: Any, end: str, *, comment: bool, indented: bool) -> str:
    """An event as senders may write it: named or not, commented, its data in one line or many."""
    lines = json.dumps(item, indent=1 if indented else None).split("\n")
    head = [": still here", "id: 7", "event: task_run.state"] if comment else []
    return "".join(f"{line}{end}" for line in [*head, *(f"data: {line}" for line in lines), ""])


@given(
    written=st.lists(st.tuples(objects, line_ends, st.booleans(), st.booleans()), max_size=4),
    bom=boms,
    places=cuts,
)
def test_events_parse_alike_however_cut(
    written: list[tuple[Any, str, bool, bool]], bom: bytes, places: Cuts
) -> None:
    text = "".join(
        event(item, end, comment=comment, indented=indented)
        for item, end, comment, indented in written
    )
    body, items = bom + text.encode(), [each[0] for each in written]
    assert cut(ServerSentEvents(), body, places) == items
    assert one_by_one(ServerSentEvents(), body) == items


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_unterminated_event_never_happened(end: bytes) -> None:
    body = b"data: 1" + end * 2 + b"data: 2" + end
    assert cut(ServerSentEvents(), body) == one_by_one(ServerSentEvents(), body) == [1]
    assert (
        cut(ServerSentEvents(), body + end) == one_by_one(ServerSentEvents(), body + end) == [1, 2]
    )


def test_comments_and_empty_events_are_skipped() -> None:
    body = b": hello\n\nevent: ping\n\n\n\ndatum: 1\n\nretry: 5\n\ndata:2\n\n"
    assert cut(ServerSentEvents(), body) == [2]


@pytest.mark.parametrize("data", [b"data: {", b"data: no", b"data:", b"data: \xff"])
def test_unreadable_event_spares_its_neighbours(data: bytes) -> None:
    parser = ServerSentEvents()
    first, odd, last = parser.feed(b"data: 1\n\n" + data + b"\n\ndata: 3\n\n")
    assert (parser.parse(first), parser.parse(last)) == ([1], [3])
    with pytest.raises(Unreadable, match="no JSON"):
        parser.parse(odd)


# --- JSON documents -----------------------------------------------------------------------------


@given(items=st.lists(objects | values, max_size=4), bom=boms, indent=st.none() | st.just(1))
def test_array_items_parse_alike_however_cut(
    items: list[Any], bom: bytes, indent: int | None
) -> None:
    body = bom + json.dumps(items, indent=indent, ensure_ascii=False).encode() + b"\r\n"
    assert cut(JsonDocuments(), body) == one_by_one(JsonDocuments(), body) == items


@given(items=st.lists(objects, min_size=1, max_size=4), end=line_ends, bom=boms, places=cuts)
def test_json_lines_parse_alike_however_cut(
    items: list[Any], end: str, bom: bytes, places: Cuts
) -> None:
    text = end.join(json.dumps(item) for item in items)
    for body in (bom + text.encode(), bom + f"{text}{end}{end}".encode()):
        assert cut(JsonDocuments(), body, places) == one_by_one(JsonDocuments(), body) == items


@given(items=st.lists(objects, min_size=1, max_size=4), at=st.integers(1, 400))
def test_truncated_array_is_never_whole(items: list[Any], at: int) -> None:
    body = json.dumps(items).encode()
    parser = JsonDocuments()
    found = fed(parser, body[: at % len(body)] or b"[")
    with pytest.raises(Unavailable):
        found.extend(parsed(parser, parser.end()))
    assert found == items[: len(found)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "neither a JSON array nor JSON objects"),
        (b'"text"', "neither a JSON array nor JSON objects"),
        (b'{"a": 1}\n{"b', "cut, or no JSON"),
        (b'{"a": 1}\n\\', "cut, or no JSON"),
        (b'{"a": 1}]', "a bracket closes"),
        (b"[1}", "a bracket closes"),
        (b"[{} x]", "no JSON"),
        (b"[{]]", "no JSON"),
        (b'[1 "2"]', "no JSON"),
        (b"[1, 2.", "inside of its array"),
        (b"[1, 2", "inside of its array"),
        (b'[{"a": "\xff"}]', "can't decode byte 0xff"),
        (b'["\xc3', "inside of its array"),
        (b'["\\"]', "inside of its array"),
        (b"[" * 100_000, "inside of its array"),
    ],
    ids=range(15),
)
def test_neither_array_nor_object_is_refused(body: bytes, reason: str) -> None:
    assert reason in refusal(JsonDocuments(), body)
    assert reason in refusal(JsonDocuments(), body, range(min(len(body), 3000)))


def test_array_item_comes_with_last_byte() -> None:
    parser = JsonDocuments()
    chunks = [b" [", b'{"a":', b' "]"}', b",,4", b"2", b" ,", b"[[]", b"]", b"] x", b"[1"]
    found = [fed(parser, chunk) for chunk in chunks]
    assert found == [[], [], [{"a": "]"}], [], [], [42], [], [[[]]], [], []]
    assert list(parser.end()) == []


def test_empty_answer_has_no_items() -> None:
    assert [
        cut(kind(), body)
        for kind in (JsonDocuments, CsvRows, ServerSentEvents)
        for body in (b"", b"\n")
    ] == [[]] * 6
    assert cut(JsonDocuments(), b"[]") == []


# --- CSV ----------------------------------------------------------------------------------------

cells = st.text(st.sampled_from('ab é",;\r\n\u2028😀'), max_size=6)


@given(
    rows=st.lists(st.tuples(cells, cells), max_size=4),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=boms,
    places=cuts,
)
def test_csv_rows_parse_alike_however_cut(
    rows: list[tuple[str, str]], end: str, bom: bytes, places: Cuts
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("x", "y"), *rows])
    body = bom + out.getvalue().encode()
    found = [(["x", "y"], list(row)) for row in rows]
    assert cut(CsvRows(), body, places) == one_by_one(CsvRows(), body) == found
    assert cut(CsvRows(), body.rstrip(b"\r\n") if not rows else body + end.encode()) == found


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'a,b\n1,"2', "inside of a quoted cell"),
        (b"a,b\n1\n", "1 cells, the header 2"),
        (b"a,b\n1,2,3\n", "3 cells, the header 2"),
        (b'a,b\n"1"x,2\n', "no CSV"),
        (b'a"b,c\nd"e,f\n', "a quote inside of a cell"),
        (b"a,b\n\xff,2\n", "not UTF-8"),
    ],
)
def test_what_is_no_csv_is_refused(body: bytes, reason: str) -> None:
    assert reason in refusal(CsvRows(), body)
    assert reason in refusal(CsvRows(), body, range(len(body)))


def test_a_cell_may_be_large() -> None:
    text = "x" * 1_000_000
    assert cut(CsvRows(), f"a\n{text}\n".encode(), [70_000, 500_000]) == [(["a"], [text])]


# --- bounds -------------------------------------------------------------------------------------

ENDLESS = {ServerSentEvents: b"data: ", JsonDocuments: b'[{"a": "', CsvRows: b'a\n"'}


@pytest.mark.parametrize("kind", ENDLESS)
def test_giant_item_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServerSentEvents | JsonDocuments | CsvRows]
) -> None:
    monkeypatch.setattr("receiver.sender_api.stream_parsers.MAX_ITEM_BYTES", 1_000)
    parser = kind()
    fed(parser, ENDLESS[kind])
    with pytest.raises(Unavailable, match="more than 1000 bytes"):
        fed(parser, b"x" * 2_000)
    small: dict[Any, Any] = {
        ServerSentEvents: (b"", b"data: 1\n\n", b""),
        JsonDocuments: (b"[", b"1,", b"2]"),
        CsvRows: (b"a\n", b"1\n", b""),
    }
    head, one, last = small[kind]
    parser = kind()
    found = [item for chunk in (head, *[one] * 900, last) for item in fed(parser, chunk)]
    assert len([*found, *parsed(parser, parser.end())]) >= 900
