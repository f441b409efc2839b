"""Parsers that cut a streamed answer into items as its bytes arrive. Pure: bytes in, items out.

Libraries for these formats keep an item of any size, and parse more strictly than we read other
answers. Here an item is bounded, and parsed by `json_values.leniently`.

Cutting looks at each byte once, however long an item is and in however many chunks it arrives. It
is apart from parsing, so that the caller can parse a large piece in a thread.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from receiver.errors import Unavailable, Unreadable
from receiver.json_values import leniently

MAX_ITEM_BYTES = 128 * 1024 * 1024
"""Limit for one item; a larger one would not fit into memory."""


class StreamParser(Protocol):
    """Takes the bytes of an answer as they arrive, and yields each piece once it is whole."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the pieces that this chunk completes; raises Unavailable for what cannot be one."""

    def end(self) -> Iterator[bytes]:
        """Yield the pieces that the answer's end completes; raises Unavailable where one is cut."""

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """Return the item in a piece, if it holds one. Call it for each piece, in their order.

        Raises Unreadable where the item cannot be read, and Unavailable where nothing after it
        could be read either. `politely` is passed to `leniently`.
        """


class ServerSentEvents:
    """Server-sent events: the JSON in the `data` of each; what follows the last blank line is lost.

    https://html.spec.whatwg.org/multipage/server-sent-events.html. The senders that we read have
    the id and the type of an event in its data.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._rest += chunk
        while (found := _BLANK_LINE.search(self._rest, max(0, self._seen - 3))) is not None:
            self._seen = 0
            yield _take(self._rest, found.end())
        self._seen = len(self._rest)
        _bound(self._seen)

    def end(self) -> Iterator[bytes]:
        """Yield a last event that ends with a CR. One without a blank line after it is dropped."""
        if self._rest.endswith((b"\r\r", b"\n\r")):  # this CR is not half of a line end
            yield from self.feed(b"\n")

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """Return the data of an event; a comment or an event without data holds no item."""
        found = []
        for line in piece.splitlines():
            name, _, value = line.partition(b":")
            if name.removeprefix(codecs.BOM_UTF8) == b"data":
                found.append(value.removeprefix(b" "))
        return [_json(b"\n".join(found), politely=politely)] if found else []


# A line ends with CR LF, LF or CR; a CR at the very end may be half of a line end to come.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r(?=[^\n]))")


class JsonDocuments:
    """JSON documents: the items of one array, or objects one after another, as in JSON Lines.

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
        """Yield the pieces that this chunk completes, up to the end of the array."""
        if self._is_closed:
            return
        self._rest += chunk
        if self._is_array is None:
            self._open()
        while not self._is_closed and (sign := self._next_sign()):
            self._depth += (sign in b"[{") - (sign in b"]}")
            if self._depth <= 0 and sign in b",]}":
                yield self._take_piece(sign)
        _bound(len(self._rest))

    def end(self) -> Iterator[bytes]:
        """Yield nothing: each item ends with its bracket. Raises Unavailable where one is cut."""
        if self._is_array and not self._is_closed:
            raise Unavailable("the answer ended inside of its array")
        if not self._is_closed and self._rest.strip():
            raise Unavailable("the answer is cut, or no JSON")
        return iter(())

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """Return the item in a piece; what is between a bracket and the next comma is none."""
        return [_json(piece, politely=politely)] if piece.strip() else []

    def _open(self) -> None:
        """Find out whether an array is around the items, once the first byte has arrived."""
        del self._rest[: _BLANK.match(self._rest).end()]  # type: ignore[union-attr]
        if self._rest:
            self._is_array = self._rest.startswith(b"[")
            if not self._is_array and not self._rest.startswith(b"{"):
                raise Unavailable("the answer is neither a JSON array nor JSON objects")
            del self._rest[: int(self._is_array)]

    def _next_sign(self) -> bytes:
        """Advance to a bracket, a comma between items, or the quote of a string cut here."""
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

    def _take_piece(self, sign: bytes) -> bytes:
        """Return the piece before a comma or the array's end, or up to its closing bracket."""
        if self._depth < 0:
            if not self._is_array or sign != b"]":
                raise Unavailable("the answer is no JSON: a bracket closes what none has opened")
            self._is_closed = True
        piece = _take(self._rest, self._seen)
        self._seen = 0
        return piece[:-1] if sign == b"," or self._is_closed else piece


_BLANK = re.compile(rb"[ \t\r\n\xef\xbb\xbf]*")  # also the three bytes of a BOM
# All of these are possessive, so that a cut item does not make them backtrack.
_INSIDE = rb'(?:[^"\\]++|\\.)*+'
_PLAIN = rb'[^"\[\]{}]++|"' + _INSIDE + rb'"'
_FLAT = rb"[\[{](?:" + _PLAIN + rb")*+[\]}]"  # an array or an object without others inside
_IN_STRING = re.compile(_INSIDE, re.DOTALL)
_IN_ITEM = re.compile(rb"(?:" + _PLAIN + rb"|" + _FLAT + rb")*+", re.DOTALL)
_BETWEEN_ITEMS = re.compile(rb'(?:[^"\[\]{},]++|"' + _INSIDE + rb'")*+', re.DOTALL)


class CsvRows:
    """CSV: the header with the cells of each row. Quoted cells may hold line ends."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0
        self._in_quotes = False
        self._header: list[str] | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._rest += chunk
        while (end := self._rest.find(b"\n", self._seen) + 1) > 0:
            self._advance(end)
            if not self._in_quotes:
                self._seen = 0
                yield _take(self._rest, end)
        self._advance(len(self._rest))
        _bound(self._seen)

    def end(self) -> Iterator[bytes]:
        """Yield the last row, which may lack a line end; raises Unavailable within quotes."""
        if self._in_quotes:
            raise Unavailable("the answer ended inside of a quoted cell")
        yield bytes(self._rest)

    def parse(self, piece: bytes, *, politely: bool = False) -> list[Any]:
        """Return a row with the header; the header itself and an empty line hold no item.

        Other threads get their turn in any case, since the reader fetches each line from Python.
        """
        csv.field_size_limit(MAX_ITEM_BYTES)  # of the whole process: other code sets its own
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

    def _advance(self, end: int) -> None:
        """Advance to `end`, tracking whether it is in quotes; a doubled quote changes nothing."""
        self._in_quotes ^= bool(self._rest.count(b'"', self._seen, end) % 2)
        self._seen = end


PARSERS: Mapping[str, type[ServerSentEvents | JsonDocuments | CsvRows]] = {
    "events": ServerSentEvents,
    "documents": JsonDocuments,
    "rows": CsvRows,
}


def _take(rest: bytearray, end: int) -> bytes:
    """Take the front off, without moving the bytes after it."""
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
