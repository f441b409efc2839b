"""Cutting streamed answers into items, as the bytes come in. Pure: bytes in, items out.

Ours, because the libraries for this keep an item of any size and parse more strictly than the rest
of what we read: an answer is bounded here, and read as leniently as `reading.leniently` does.

Cutting looks at each byte once, however long an item is and in however many chunks it comes. That
is apart from parsing, so that who calls may parse a large piece in a thread.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import Any, Protocol

from receiver.errors import Unavailable, Unreadable
from receiver.json_values import leniently

MAX_ITEM_BYTES = 128 * 1024 * 1024
"""One item may be so large; more would not fit into memory."""


class StreamParser(Protocol):
    """Takes the bytes of an answer as they come, and yields the pieces that are whole."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The pieces that this chunk completes; raises Unavailable for what can be none."""

    def end(self) -> Iterator[bytes]:
        """The pieces that the end of the answer completes; raises Unavailable where one is cut."""

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """The item in a piece, if there is one; raises Unreadable where it cannot be read, and
        Unavailable where nothing behind it could be either.

        To be called for each piece and in their order. `politely` is what it is to `leniently`.
        """


class ServerSentEvents:
    """Server-sent events: the JSON in the `data` of each. What follows the last blank line is cut.

    https://html.spec.whatwg.org/multipage/server-sent-events.html; the id and the type of an event
    stand in the data itself at the senders that we read.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """See StreamParser."""
        self._rest += chunk
        while (found := _BLANK_LINE.search(self._rest, max(0, self._seen - 3))) is not None:
            self._seen = 0
            yield _taken(self._rest, found.end())
        self._seen = len(self._rest)
        _bound(self._seen)

    def end(self) -> Iterator[bytes]:
        """See StreamParser. An event without the blank line behind it never happened."""
        if self._rest.endswith((b"\r\r", b"\n\r")):  # that CR is no half of a line end
            yield from self.feed(b"\n")

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """See StreamParser. A comment, or an event without data, is no item."""
        found = []
        for line in piece.splitlines():
            name, _, value = line.partition(b":")
            if name.removeprefix(codecs.BOM_UTF8) == b"data":
                found.append(value.removeprefix(b" "))
        return [_json(b"\n".join(found), politely=politely)] if found else []


# A line ends with CR LF, LF or CR; a CR at the very end may be the half of one that is to come.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")


class JsonDocuments:
    """JSON documents: the items of one array, or objects one after the other, as in JSON Lines.

    An item ends with the bracket that closes it, or before the comma or the end of the array.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0
        self._depth = 0
        self._in_string = False
        self._is_array: bool | None = None
        self._is_closed = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """See StreamParser. What follows the end of the array is not looked at."""
        if self._is_closed:
            return
        self._rest += chunk
        if self._is_array is None:
            self._open()
        while not self._is_closed and (sign := self._next_sign()):
            self._depth += (sign in b"[{") - (sign in b"]}")
            if self._depth <= 0 and sign in b",]}":
                yield self._ended_by(sign)
        _bound(len(self._rest))

    def end(self) -> Iterator[bytes]:
        """See StreamParser. There never is one: what is whole has come before."""
        if self._is_array and not self._is_closed:
            raise Unavailable("the answer ended inside of its array")
        if not self._is_closed and self._rest.strip():
            raise Unavailable("the answer is cut, or no JSON")
        return iter(())

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """See StreamParser. Between a closing bracket and the comma behind it there is none."""
        return [_json(piece, politely=politely)] if piece.strip() else []

    def _open(self) -> None:
        """Find out whether there is an array around the items, once there is anything."""
        del self._rest[: _BLANK.match(self._rest).end()]  # type: ignore[union-attr]
        if self._rest:
            self._is_array = self._rest.startswith(b"[")
            if not self._is_array and not self._rest.startswith(b"{"):
                raise Unavailable("the answer is neither a JSON array nor JSON objects")
            del self._rest[: int(self._is_array)]

    def _next_sign(self) -> bytes:
        """Go on to a bracket, a comma between items, or the quote of a string that is cut here."""
        if self._in_string:
            self._seen = _IN_STRING.match(self._rest, self._seen).end()  # type: ignore[union-attr]
            if not self._rest.startswith(b'"', self._seen):
                return b""
            self._in_string = False
            self._seen += 1
        between = _IN_ITEM if self._depth > 0 else _BETWEEN_ITEMS
        self._seen = between.match(self._rest, self._seen).end()  # type: ignore[union-attr]
        sign = bytes(self._rest[self._seen : self._seen + 1])
        self._seen += len(sign)
        self._in_string = sign == b'"'
        return sign

    def _ended_by(self, sign: bytes) -> bytes:
        """The piece before a comma or the end of the array, or up to the bracket that closes it."""
        if self._depth < 0:
            if not self._is_array or sign != b"]":
                raise Unavailable("the answer is no JSON: a bracket closes what none has opened")
            self._is_closed = True
        piece = _taken(self._rest, self._seen)
        self._seen = 0
        return piece[:-1] if sign == b"," or self._is_closed else piece


_BLANK = re.compile(rb"[ \t\r\n\xef\xbb\xbf]*")  # also the three bytes of a BOM
# None of these gives back what it has taken, so that what is cut is not tried in many ways.
_INSIDE = rb'(?:[^"\\]++|\\.)*+'
_PLAIN = rb'[^"\[\]{}]++|"' + _INSIDE + rb'"'
_FLAT = rb"[\[{](?:" + _PLAIN + rb")*+[\]}]"  # an array or an object without others inside
_IN_STRING = re.compile(_INSIDE, re.DOTALL)
_IN_ITEM = re.compile(rb"(?:" + _PLAIN + rb"|" + _FLAT + rb")*+", re.DOTALL)
_BETWEEN_ITEMS = re.compile(rb'(?:[^"\[\]{},]++|"' + _INSIDE + rb'")*+', re.DOTALL)


class CsvRows:
    """CSV: of each row the header and its cells. Cells may hold line ends in quotes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0
        self._in_quotes = False
        self._header: list[str] | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """See StreamParser."""
        self._rest += chunk
        while (end := self._rest.find(b"\n", self._seen) + 1) > 0:
            self._look_on(end)
            if not self._in_quotes:
                self._seen = 0
                yield _taken(self._rest, end)
        self._look_on(len(self._rest))
        _bound(self._seen)

    def end(self) -> Iterator[bytes]:
        """See StreamParser. The last row may go without a line end."""
        if self._in_quotes:
            raise Unavailable("the answer ended inside of a quoted cell")
        yield bytes(self._rest)

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """See StreamParser. The header is no item, nor is an empty line.

        Always politely: the reader asks us for each line.
        """
        csv.field_size_limit(MAX_ITEM_BYTES)  # the process's own: others set it to what they take
        coding = "utf-8-sig" if self._header is None else "utf-8"
        try:
            lines = (line.decode(coding) for line in io.BytesIO(piece))
            cells, *more = list(csv.reader(lines, strict=True)) or [[]]
        except UnicodeDecodeError as error:
            raise Unavailable("the answer is not UTF-8") from error
        except csv.Error as error:
            raise Unavailable(f"the answer is no CSV: {error}") from error
        if more:
            raise Unavailable("the answer is no CSV: a quote inside of a cell without quotes")
        if not cells:
            return []
        if self._header is None:
            self._header = cells
            return []
        if len(cells) != len(self._header):
            raise Unavailable(f"a row has {len(cells)} cells, the header {len(self._header)}")
        return [(self._header, cells)]

    def _look_on(self, end: int) -> None:
        """Go on to `end`, and know whether that is in quotes; a doubled quote changes nothing."""
        self._in_quotes ^= bool(self._rest.count(b'"', self._seen, end) % 2)
        self._seen = end


def _taken(rest: bytearray, end: int) -> bytes:
    """Take the front off, which does not move what is behind it."""
    with memoryview(rest) as view:
        piece = view[:end].tobytes()
    del rest[:end]
    return piece


def _json(data: bytes, *, politely: bool) -> Any:
    try:
        return leniently(data, politely=politely)
    except ValueError as error:
        raise Unreadable(f"an item of the answer is no JSON: {error}") from error


def _bound(size: int) -> None:
    if size > MAX_ITEM_BYTES:
        raise Unavailable(f"one item of the answer has more than {MAX_ITEM_BYTES} bytes")
