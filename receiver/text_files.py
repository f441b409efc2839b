"""Text files as people have them: UTF-8 with or without its mark, UTF-16 with one, or as named.

No encoding is guessed: a wrong guess changes letters, and nobody notices.
"""

import codecs
from pathlib import Path
from typing import NamedTuple

from receiver.errors import UsageError

_MARKS = (  # in this order, for that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How Excel's .xlsx and .xls begin."""


class Text(NamedTuple):
    """The text of a file, and the encoding that it was read with, as a person writes it."""

    text: str
    encoding: str


def read_text(path: Path, *, encoding: str | None = None, option: str = "") -> Text:
    """Return the text of a file, without a byte order mark.

    A mark decides; without one it is `encoding`, by default UTF-8. `option` is what the user may
    write to name another. Raises UsageError, one sentence that names the file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:  # a NUL in its name
        raise UsageError(f"{str(path)!r} is no name of a file.") from None
    return _decoded(data, str(path), encoding, option)


def _decoded(data: bytes, name: str, encoding: str | None, option: str) -> Text:
    if data.startswith(_WORKBOOKS):
        raise UsageError(f"{name} is a workbook: save it as CSV UTF-8.")
    codec = None if encoding is None else _codec(encoding)
    for mark, marked, shown in _MARKS:
        if data.startswith(mark):
            if codec is not None and not codec.startswith(shown.lower()):
                raise UsageError(
                    f"{name} begins with the byte order mark of {shown}, so it is not {encoding}: "
                    "do not name its encoding."
                )
            return Text(_strictly(data[len(mark) :], marked, name, shown, ""), shown)
    if codec is None:
        _refuse_unmarked(data, name, option)
    shown = encoding or "UTF-8"
    return Text(_strictly(data, codec or "utf-8", name, shown, option), shown)


def _codec(encoding: str) -> str:
    """Return the codec of an encoding's name; raises UsageError."""
    try:
        codec = codecs.lookup(encoding)
        "x".encode(encoding)  # fails for those that are none of text, such as base64
    except (LookupError, ValueError):
        raise UsageError(
            f"There is no encoding {encoding!r}: write windows-1252, utf-16-le or another one."
        ) from None
    return codec.name


def _refuse_unmarked(data: bytes, name: str, option: str) -> None:
    """Raise UsageError for UTF-16 without a mark, which would pass as UTF-8 full of NULs."""
    for byte, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        every_second = data[byte::2]
        if every_second.count(0) > len(every_second) / 4:
            named = f", or name its encoding: {option} {encoding}" if option else ""
            raise UsageError(
                f"{name} looks like UTF-16 without a byte order mark: save it as UTF-8{named}."
            )


def _strictly(data: bytes, codec: str, name: str, shown: str, option: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(codec, "replace").count("\n") + 1
        named = (
            f", or name the encoding that it was saved in, such as {option} windows-1252"
            if option
            else ""
        )
        raise UsageError(
            f"{name}, line {line}: it is not {shown} (at byte {error.start}): "
            f"save it as UTF-8{named}."
        ) from None
