"""Verifies a delivery: bytes, keys and `now` in; a `Match` or a `SignatureError` out.

Pure: no I/O, no clock. The bytes that are signed are the bytes that came; nothing is parsed here.
"""

import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from receiver.errors import SignatureError
from receiver.signatures.keys import MAX_SECRET, MIN_KEY, BearerToken, Key, doubt, prepare
from receiver.signatures.schemes import AnyScheme, Bearer, Scheme

__all__ = ["MAX_KEYS", "Key", "Match", "behind_bearer", "doubt", "prepare", "verify"]

MAX_KEYS: Final = 30
MAX_ENTRIES: Final = 8
MAX_SIGNATURE_HEADER: Final = 4096
MAX_MESSAGE_ID: Final = 256
MAX_TIMESTAMP: Final = 13
MILLISECONDS_FROM: Final = 1e11  # as seconds this is the year 5138, as milliseconds 1973

# A presented MAC is never decoded: ours is encoded and the texts are compared, so only the one
# canonical spelling passes. The forms only tell a bad spelling from a bad signature afterwards
# (in base64, the last digit of 32 bytes carries two bits that must be zero).
_FORMS: Final[dict[str, re.Pattern[bytes]]] = {
    "hex": re.compile(rb"[0-9a-f]{64}"),
    "base64": re.compile(rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="),
}
_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "hex": binascii.hexlify,
    "base64": partial(binascii.b2a_base64, newline=False),
}
_LENGTHS: Final = {"hex": 64, "base64": 44}
_SPELLINGS: Final = {"hex": "lower-case hex", "base64": "base64"}
_BLANKS: Final = b" \t"
_TOKEN: Final = re.compile(rb"[!-~]{%d,%d}" % (MIN_KEY, MAX_SECRET))


@dataclass(slots=True)  # not frozen: one is made for each delivery, and freezing doubles its cost
class Match:
    """Proof that a delivery is genuine: the key, when it was signed, and its signed id.

    `timestamp` is in seconds; `skew` is now minus timestamp, so positive for the past. Both are
    None where nothing says when it was sent.
    """

    key: Key
    timestamp: float | None
    skew: float | None
    message_id: str | None


def verify(
    scheme: AnyScheme,
    keys: Sequence[Key],
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    *,
    now: float,
) -> Match:
    """Return who signed these bytes, and when; raises SignatureError, and nothing else.

    Header names are lower-case, as ASGI gives them. Every key (at most MAX_KEYS) is compared in
    constant time with every entry (at most MAX_ENTRIES): how long it takes tells nothing. Age is
    looked at last, so `stale` means authentic but outside the tolerance.
    """
    if isinstance(scheme, Bearer):
        return _verify_bearer(scheme, keys, list(headers), body, now)
    found = _find(scheme, headers)
    entries = _entries(scheme, _value(found, scheme.signature_header))
    if scheme.timestamp_header is None:
        return Match(_matching(scheme, keys, entries, b"", body), None, None, None)
    sent = _value(found, scheme.timestamp_header)
    timestamp = seconds(sent)
    message_id = None if scheme.id_header is None else _message_id(scheme, found)
    key = _matching(scheme, keys, entries, _head(scheme, message_id, sent), body)
    skew = now - timestamp
    if not abs(skew) <= scheme.tolerance:  # in this form a NaN is refused too
        raise SignatureError("stale", f"authentic, but signed {skew:.0f} s ago by our clock")
    return Match(key, timestamp, skew, message_id)


def _verify_bearer(
    scheme: Bearer,
    keys: Sequence[Key],
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    now: float,
) -> Match:
    """Verify the token, which is cheap; then the signature, where there must be one."""
    digest = hashlib.sha256(_presented(scheme, headers)).digest()
    shown = None
    for key in [key for key in keys if isinstance(key, BearerToken)][:MAX_KEYS]:
        if key.is_shown_by(digest) and shown is None:
            shown = key
    if shown is None:
        raise SignatureError("mismatch", "the token is none of those that are registered")
    if scheme.signature is None:
        return Match(shown, None, None, None)
    signing = [key for key in keys if not isinstance(key, BearerToken)]
    signed = verify(scheme.signature, signing, headers, body, now=now)
    return replace(signed, key=shown)


def _presented(scheme: Bearer, headers: list[tuple[bytes, bytes]]) -> bytes:
    name = scheme.header.decode()
    values = {value.strip(_BLANKS) for header, value in headers if header == scheme.header}
    if not any(values):
        raise SignatureError("missing", f"header {name} is missing")
    if len(values) > 1:
        raise SignatureError("malformed", f"header {name} came with different values")
    (value,) = values
    token = behind_bearer(value)
    if token is None:
        if scheme.header == b"authorization":
            raise SignatureError("malformed", f"header {name} holds no Bearer token")
        token = value
    if not _TOKEN.fullmatch(token):
        raise SignatureError("malformed", f"header {name} holds nothing like a token")
    return token


def behind_bearer(value: bytes) -> bytes | None:
    """Return what follows the word Bearer in a header's value; None without that word.

    White space around a value is no part of it, and several spaces may follow the word (RFC 9110,
    5.5 and 11.4).
    """
    word, _, token = value.strip(_BLANKS).partition(b" ")
    return token.lstrip(b" ") if word.lower() == b"bearer" else None


def _find(scheme: Scheme, headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers that the scheme reads; a name with two values proves nothing."""
    wanted = (scheme.signature_header, scheme.timestamp_header, scheme.id_header)
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in wanted and found.setdefault(name, value) != value:
            raise SignatureError("malformed", f"header {name.decode()} came with different values")
    return found


def _value(found: dict[bytes, bytes], name: bytes) -> bytes:
    value = found.get(name)
    if not value:
        raise SignatureError("missing", f"header {name.decode()} is missing")
    return value


def _entries(scheme: Scheme, value: bytes) -> list[bytes]:
    """Return the texts that can be a MAC; those of other versions or lengths cannot."""
    if len(value) > MAX_SIGNATURE_HEADER:
        raise SignatureError("malformed", "the signature header is too long")
    prefix = scheme.prefix
    cut, length = len(prefix), len(prefix) + _LENGTHS[scheme.encoding]
    texts = value.split(b" ") if scheme.several else (value,)
    found = [text[cut:] for text in texts if len(text) == length and text.startswith(prefix)]
    if not found:
        raise _misspelt(scheme)
    return found[:MAX_ENTRIES]


def _misspelt(scheme: Scheme) -> SignatureError:
    wanted = f"{scheme.prefix.decode()}<32 bytes in {_SPELLINGS[scheme.encoding]}>"
    return SignatureError("malformed", f"the signature header holds nothing like {wanted}")


def seconds(sent: bytes) -> float:
    """Return a timestamp header's value as Unix time; raises SignatureError."""
    # isdigit() of bytes knows ASCII only. A leading zero is refused because libraries that sign
    # the number anew would not take it either.
    if not sent.isdigit() or len(sent) > MAX_TIMESTAMP or (sent[0] == 48 and len(sent) > 1):
        raise SignatureError("malformed", "the timestamp is not a plain number of 1 to 13 digits")
    number = int(sent)
    return number / 1000 if number > MILLISECONDS_FROM else float(number)


def _message_id(scheme: Scheme, found: dict[bytes, bytes]) -> str:
    value = _value(found, scheme.id_header or b"")
    text = value.decode("ascii", "replace")  # what is not ASCII becomes a character that is not
    if not (text.isascii() and text.isprintable() and len(text) <= MAX_MESSAGE_ID):
        raise SignatureError("malformed", "the id is not 1 to 256 printable ASCII characters")
    if " " in text or scheme.id_separator in text:
        raise SignatureError("malformed", "the id holds a space or the separator after it")
    return text


def _head(scheme: Scheme, message_id: str | None, sent: bytes) -> bytes:
    if message_id is None:
        return scheme.head % sent
    encoded = message_id.encode()
    return scheme.head % ((encoded, sent) if scheme.id_first else (sent, encoded))


def _matching(
    scheme: Scheme, keys: Sequence[Key], entries: list[bytes], head: bytes, body: bytes
) -> Key:
    encode, compare = _ENCODERS[scheme.encoding], hmac.compare_digest
    matching = None
    for key in keys[:MAX_KEYS]:
        expected = encode(key.mac(head, body))
        for entry in entries:
            if compare(expected, entry) and matching is None:
                matching = key
    if matching is None:
        form = _FORMS[scheme.encoding]
        if not any(form.fullmatch(entry) for entry in entries):
            raise _misspelt(scheme)
        raise SignatureError("mismatch", f"no signature fits any of {len(keys)} keys")
    return matching
