"""Is a delivery genuine? Bytes, keys and `now` in; a `Match` or a `SignatureError` out.

Pure: no I/O, no clock. The bytes that are signed are the bytes that came; nothing is parsed here.
"""

import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from receiver.errors import SignatureError
from receiver.schemes import READINGS, WHSEC, Scheme

MAX_KEYS: Final = 10
MAX_ENTRIES: Final = 8
MAX_SIGNATURE_HEADER: Final = 4096
MAX_SECRET: Final = 1024
MAX_MESSAGE_ID: Final = 256
MAX_TIMESTAMP: Final = 13
MIN_KEY: Final = 16
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
_KEY_PAIRS: Final = (
    "whpk_", "whsk_", "-----BEGIN", "ssh-", "MCowBQYDK2Vw", "MFkwEwYHKoZIzj", "MIIBIjANBgkqhki",
)  # fmt: skip
_QUOTES: Final = ("'", '"', "`")


class Key:
    """One reading of one secret, as a prepared HMAC state; neither repr nor pickle shows it."""

    __slots__ = ("_state", "reading", "secret_id")

    def __init__(self, key: bytes, *, reading: str, secret_id: int = 0) -> None:
        self.secret_id = secret_id
        self.reading = reading
        self._state = HMAC(key, hashes.SHA256())

    def mac(self, head: bytes, body: bytes) -> bytes:
        """The HMAC-SHA256 of head and body; copies a state, which does not let go of the GIL."""
        state = self._state.copy()
        state.update(head)
        state.update(body)
        return state.finalize()

    def __repr__(self) -> str:
        return f"Key(secret_id={self.secret_id}, reading={self.reading!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not pickled")


@dataclass(frozen=True, slots=True)
class Match:
    """A delivery is genuine: which key proves it, when it was signed, and its signed id.

    `timestamp` is in seconds; `skew` is now minus timestamp, so positive for the past.
    """

    key: Key
    timestamp: float
    skew: float
    message_id: str | None


def prepare(scheme: Scheme, secret: str, *, secret_id: int = 0) -> tuple[Key, ...]:
    """The keys that a secret's text can mean, in the scheme's order; at least one.

    ValueError, with what to do and without the secret, for a text that cannot be one: the wrong
    thing pasted must fail where it is pasted, not as a wall of refused deliveries.
    """
    _refuse_paste(secret)
    if "decoded" in scheme.readings and secret.startswith(WHSEC):
        _refuse_junk(READINGS["decoded"](secret))
    readings = ((name, READINGS[name](secret)) for name in scheme.readings)
    keys = {value: name for name, value in readings if value is not None and len(value) >= MIN_KEY}
    if not keys:
        raise ValueError(
            f"the signing secret is too short or not {' or '.join(scheme.readings)}: "
            f"a key has at least {MIN_KEY} bytes"
        )
    return tuple(Key(value, reading=name, secret_id=secret_id) for value, name in keys.items())


def _refuse_paste(secret: str) -> None:
    checks = (
        (not secret, "is empty"),
        (len(secret) > MAX_SECRET, f"is longer than {MAX_SECRET} characters"),
        (secret[:1] in _QUOTES or secret[-1:] in _QUOTES, "has quotes around it: remove them"),
        (secret != secret.strip(), "has spaces or a line end around it: remove them"),
        (
            secret.removeprefix(WHSEC).startswith(_KEY_PAIRS),
            "is a key of a key pair: anyone who knows a public key could sign with it",
        ),
        (not re.fullmatch(r"[!-~]+", secret), "has characters that are not printable ASCII"),
    )
    for wrong, sentence in checks:
        if wrong:
            raise ValueError(f"the signing secret {sentence}")


def _refuse_junk(decoded: bytes | None) -> None:
    if decoded is None:
        raise ValueError("the signing secret is not base64 after whsec_: copy it again")
    if len(decoded) < MIN_KEY:
        raise ValueError(f"the signing secret is too short: under {MIN_KEY} bytes after whsec_")


def verify(
    scheme: Scheme,
    keys: Sequence[Key],
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    *,
    now: float,
) -> Match:
    """Who signed these bytes, and when; SignatureError, and nothing else, if that is not proven.

    Header names are lower-case, as ASGI gives them. Every key (at most MAX_KEYS) is compared in
    constant time with every entry (at most MAX_ENTRIES): how long it takes tells nothing. Age is
    looked at last, so `stale` means authentic but outside the tolerance.
    """
    found = _find(scheme, headers)
    entries = _entries(scheme, _value(found, scheme.signature_header))
    sent = _value(found, scheme.timestamp_header)
    timestamp = _seconds(sent)
    message_id = None if scheme.id_header is None else _message_id(scheme, found)
    key = _matching(scheme, keys, entries, _head(scheme, message_id, sent), body)
    skew = now - timestamp
    if not abs(skew) <= scheme.tolerance:  # in this form a NaN is refused too
        raise SignatureError("stale", f"authentic, but signed {skew:.0f} s ago by our clock")
    return Match(key, timestamp, skew, message_id)


def _find(scheme: Scheme, headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that the scheme reads, in one pass; a name with two values proves nothing."""
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
    """The texts in the header that can be a MAC; those of other versions or lengths cannot."""
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
    wanted = f"{scheme.prefix.decode()}<32 bytes in {scheme.encoding}>"
    return SignatureError("malformed", f"the signature header holds nothing like {wanted}")


def _seconds(sent: bytes) -> float:
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
