"""Text files: a byte order mark decides, UTF-8 is expected, nothing else is guessed."""

from pathlib import Path

import pytest

from receiver.errors import UsageError
from receiver.text_files import read_text

TEXT = "Zürich; 5 €\r\n"
FILE = Path("tasks.csv")


def refusal(data: bytes, encoding: str | None = None) -> str:
    FILE.write_bytes(data)
    with pytest.raises(UsageError) as raised:
        read_text(FILE, encoding=encoding, option="--encoding")
    return str(raised.value)


@pytest.mark.parametrize(
    ("data", "named", "shown"),
    [
        (TEXT.encode(), None, "UTF-8"),
        (TEXT.encode("utf-8-sig"), None, "UTF-8"),
        (TEXT.encode("utf-8-sig"), "utf8", "UTF-8"),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), None, "UTF-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), None, "UTF-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16", "UTF-16"),
        (TEXT.encode("utf-32"), None, "UTF-32"),
        (TEXT.encode("utf-16-le"), "utf-16-le", "utf-16-le"),
        (TEXT.encode("cp1252"), "windows-1252", "windows-1252"),
    ],
)
def test_each_encoding_is_read_the_same(data: bytes, named: str | None, shown: str) -> None:
    FILE.write_bytes(data)
    assert read_text(FILE, encoding=named) == (TEXT, shown)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman"])
def test_other_encodings_must_be_named(encoding: str) -> None:
    assert refusal(f"a\n{TEXT}".replace("€", "").encode(encoding)) == (
        "tasks.csv, line 2: it is not UTF-8 (at byte 3): save it as UTF-8, "
        "or name the encoding that it was saved in, such as --encoding windows-1252."
    )


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_recognised(encoding: str) -> None:
    assert refusal(TEXT.encode(encoding)).endswith(f"name its encoding: --encoding {encoding}.")


@pytest.mark.parametrize(
    ("data", "encoding", "sentence"),
    [
        (TEXT.encode("utf-16"), "latin-1", "begins with the byte order mark of UTF-16"),
        (TEXT.encode("utf-8-sig"), "cp1252", "begins with the byte order mark of UTF-8"),
        (b"\xff\xfea", None, "line 1: it is not UTF-16 (at byte 0)"),
        (b"x", "base64", "There is no encoding 'base64'"),
        (b"x", "klingon", "There is no encoding 'klingon'"),
        (b"PK\x03\x04\x14", None, "is a workbook: save it as CSV UTF-8"),
    ],
)
def test_contradictions_are_refused(data: bytes, encoding: str | None, sentence: str) -> None:
    assert sentence in refusal(data, encoding)


@pytest.mark.parametrize("name", ["none.csv", ".", "a\0b.csv"])
def test_unreadable_file_is_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.$"):
        read_text(Path(name))
