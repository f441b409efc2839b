"""Hides secrets in what is logged: configured ones, and text that looks like one.

A second wall: the first is not to log them.
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

MAX_TEXT: Final = 16_000
MAX_DEPTH: Final = 5
HIDDEN: Final = "[hidden]"
SHORTEST_SECRET: Final = 8

_SECRET_NAME: Final = re.compile(
    r"secret|api_?key|private_?key|authorization|cookie|password|passphrase|signature|token|body"
    r"|credential",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"(?<=\S\?)[^\s\"'<>]+"  # a query string, of a whole URL or of a path alone
    r"|(?i:%(?:25)*3f|\\(?:u00|x)3f)[^\s\"'<>]+"  # the same in a URL or JSON inside another
    r"|(?<=://)[^\s/@\"']+(?=@)"  # user and password in a URL
    r"|(?<=whsec_)[A-Za-z0-9+/=_-]+"
    r"|(?<=[Bb]earer )[A-Za-z0-9+/=._~-]{8,}"
    r"|(?<=\bval_)[A-Za-z0-9_-]{8,}"  # Valyu's API keys
    r"|(?<=\brs_)[A-Za-z0-9_-]{40,}"  # our own tokens
)


def hide(secrets: Iterable[str]) -> None:
    """Hide these texts from now on, wherever they stand.

    A text shorter than SHORTEST_SECRET is no secret, and would blot out ordinary words.
    """
    worthy = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
    _CONFIGURED[:] = sorted(worthy, key=len, reverse=True)  # one may be a part of another


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Return True if text under this name is a secret."""
    return _SECRET_NAME.search(name) is not None


def clean(name: str, value: object, depth: int = 0) -> object:
    """Return a value as plain JSON data, without what looks like a secret.

    Numbers stay under any name (`body_bytes`, `secret_id`): they are counts, sizes or our keys.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_secret(name) or depth > MAX_DEPTH:
        return HIDDEN
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): clean(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean("", item, depth + 1) for item in value]
    return clean_text(str(value))


def clean_text(text: str) -> str:
    """Return a text, cut to MAX_TEXT, without what looks like a secret."""
    for secret in _CONFIGURED:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... ({len(text)} characters)"
    # Written out, for this runs for every text of every line.
    if (
        "?" in text
        or "%" in text
        or "\\" in text
        or "@" in text
        or "earer " in text
        or "whsec_" in text
        or "val_" in text
        or "rs_" in text
    ):
        return _SECRET_TEXT.sub(HIDDEN, text)
    return text


_CONFIGURED: Final[list[str]] = []
