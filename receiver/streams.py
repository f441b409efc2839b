"""Cutting streamed answers into items, as the bytes come in. Pure: bytes in, items out.

Ours, because the libraries for this keep an item of any size and parse more strictly than the rest
of what we read: an answer is bounded here, and read as leniently as `reading.leniently` does.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from typing import Any, Protocol

from receiver.errors import Unavailable
from receiver.providers.reading import LENIENT, leniently

MAX_ITEM_BYTES = 128 * 1024 * 1024
"""One item may be so large; more would not fit into memory."""


class Cutter(Protocol):
    """Takes the bytes of an answer as they come, and yields what is whole."""

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """The items that this chunk completes; raises Unavailable for what is none."""

    def end(self) -> Iterator[Any]:
        """The items that the end of the answer completes; raises Unavailable where one is cut."""


class Events:
    """Server-sent events: the JSON in the `data` of each. What follows the last blank line is cut.

    https://html.spec.whatwg.org/multipage/server-sent-events.html; the id and the type of an event
    stand in the data itself at the senders that we read.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """See Cutter."""
        self._rest += chunk
        start = 0
        while (found := _BLANK_LINE.search(self._rest, max(start, self._seen - 3))) is not None:
            event = bytes(self._rest[start : found.start()])
            start = self._seen = found.end()
            if (data := _data_of(event)) is not None:
                yield _document(data)
        del self._rest[:start]
        self._seen = len(self._rest)
        _bound(self._seen)

    def end(self) -> Iterator[Any]:
        """See Cutter. An event without the blank line behind it never happened."""
        if self._rest.endswith((b"\r\r", b"\n\r")):  # that CR is no half of a line end
            yield from self.feed(b"\n")


# A line ends with CR LF, LF or CR; a CR at the very end may be the half of one that is to come.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")
_LINE = re.compile(rb"\r\n|\n|\r")


def _data_of(event: bytes) -> bytes | None:
    """The data lines of an event, joined; None for a comment or an event without data."""
    found = []
    for line in _LINE.split(event):
        name, _, value = line.partition(b":")
        if name.removeprefix(codecs.BOM_UTF8) == b"data":
            found.append(value.removeprefix(b" "))
    return b"\n".join(found) if found else None


def _document(data: bytes) -> Any:
    try:
        return leniently(data)
    except ValueError as error:
        raise Unavailable(f"an event of the stream is no JSON: {error}") from error


class Documents:
    """JSON documents: the items of one array, or one after the other, as in JSON Lines."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._try_from = 0
        self._is_array: bool | None = None
        self._is_closed = False

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """See Cutter."""
        return self._items(chunk, final=False)

    def end(self) -> Iterator[Any]:
        """See Cutter."""
        yield from self._items(b"", final=True)
        if self._is_array and not self._is_closed:
            raise Unavailable("the answer ended inside of its array")

    def _items(self, chunk: bytes, *, final: bool) -> Iterator[Any]:
        try:
            self._text += self._decode.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise Unavailable("the answer is not UTF-8") from error
        _bound(len(self._text))
        if not final and len(self._text) < self._try_from:
            return
        place = self._open()
        while (place := self._skip(place)) < len(self._text):
            try:
                item, after = LENIENT.raw_decode(self._text, place)
            except (json.JSONDecodeError, RecursionError) as error:
                if final:
                    raise Unavailable(f"the answer is cut, or no JSON: {error}") from error
                break
            if not final and _may_go_on(item, self._text[after : after + 1]):
                break
            yield item
            place = after
        self._text = self._text[place:]
        # A large item is not tried again for every chunk of it.
        self._try_from = 2 * len(self._text)

    def _open(self) -> int:
        """Where the first item may stand, once it is known whether there is an array around."""
        place = _SPACE.match(self._text).end()  # type: ignore[union-attr]
        if self._is_array is None and place < len(self._text):
            self._is_array = self._text[place] == "["
            if self._is_array:
                place += 1
            elif self._text[place] != "{":
                raise Unavailable("the answer is neither a JSON array nor JSON objects")
        return place

    def _skip(self, place: int) -> int:
        """Past what stands between two items; all of the text, behind the end of an array."""
        place = _BETWEEN.match(self._text, place).end()  # type: ignore[union-attr]
        if self._is_array and self._text[place : place + 1] == "]":
            self._is_closed = True
        return len(self._text) if self._is_closed else place


def _may_go_on(item: Any, following: str) -> bool:
    """Whether more of an item may be to come: of 1 there is, where 1.5 is cut behind the point."""
    return not following or (isinstance(item, int | float) and following not in " \t\r\n,]")


_SPACE = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n,]*")


class Rows:
    """CSV: of each row the header and its cells. Cells may hold line ends in quotes."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._header: list[str] | None = None

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """See Cutter."""
        return self._rows(chunk, final=False)

    def end(self) -> Iterator[Any]:
        """See Cutter."""
        return self._rows(b"", final=True)

    def _rows(self, chunk: bytes, *, final: bool) -> Iterator[Any]:
        try:
            self._text += self._decode.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise Unavailable("the answer is not UTF-8") from error
        _bound(len(self._text))
        lines = [f"{line}\n" for line in self._text.split("\n")]
        if not final:
            lines.pop()  # there may be more of it to come
        used, record, in_quotes = 0, [], False
        for line in lines:
            record.append(line)
            in_quotes ^= bool(line.count('"') % 2)
            if not in_quotes:
                used += sum(map(len, record))
                yield from self._row("".join(record))
                record = []
        if final and in_quotes:
            raise Unavailable("the answer ended inside of a quoted cell")
        self._text = self._text[used:]

    def _row(self, record: str) -> Iterator[Any]:
        csv.field_size_limit(MAX_ITEM_BYTES)  # the process's own: others set it to what they take
        try:
            cells = next(csv.reader([record.rstrip("\r\n")], strict=True), [])
        except csv.Error as error:
            raise Unavailable(f"the answer is no CSV: {error}") from error
        if not cells:
            return
        if self._header is None:
            self._header = cells
        elif len(cells) != len(self._header):
            raise Unavailable(f"a row has {len(cells)} cells, the header {len(self._header)}")
        else:
            yield self._header, cells


def _bound(size: int) -> None:
    if size > MAX_ITEM_BYTES:
        raise Unavailable(f"one item of the answer has more than {MAX_ITEM_BYTES} bytes")
