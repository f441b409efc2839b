"""Is a delivery genuine? Bytes, keys and `now` in; a `Match` or a `SignatureError` out.

Pure: no I/O, no clock. How senders sign is data (`Scheme`), chosen per source by configuration and
never guessed from a request: the same header names and the same `whsec_` prefix mean different
things at different senders. The bytes that are signed are the bytes that came; nothing is parsed
here.
"""

import base64
import binascii
import hmac
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from receiver.errors import SignatureError

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
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,100}")
_TEMPLATE: Final = re.compile(
    r"(?P<lead>[ -$&-z|~]{0,32})"
    r"\{(?P<first>id|timestamp)\}(?P<sep1>[-.:;,|/ \n])"
    r"(?:\{(?P<second>id|timestamp)\}(?P<sep2>[-.:;,|/ \n]))?"
    r"\{body\}"
)
_KEY_PAIRS: Final = (
    "whpk_", "whsk_", "-----BEGIN", "ssh-", "MCowBQYDK2Vw", "MFkwEwYHKoZIzj", "MIIBIjANBgkqhki",
)  # fmt: skip
_WHSEC: Final = "whsec_"
_QUOTES: Final = ("'", '"', "`")


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one kind of sender signs; refuses, with a ValueError, what could not be checked safely.

    `template` names what is signed: `{timestamp}` and perhaps `{id}`, each followed by one
    separator, then `{body}`. An id that holds the separator is refused by `verify`, and timestamps
    are digits, so the same signed bytes can never be cut into another id, timestamp and body: the
    id becomes an event key and must not be movable. (Standard Webhooks joins with "." too.)
    `several` says that the signature header is a list, separated by spaces.
    """

    name: str
    signature_header: bytes
    timestamp_header: bytes
    id_header: bytes | None
    template: str
    prefix: bytes
    encoding: Literal["hex", "base64"]
    readings: tuple[str, ...]
    tolerance: float
    several: bool = False
    head: bytes = field(init=False, repr=False, compare=False)
    id_separator: str = field(init=False, repr=False, compare=False)
    id_first: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_headers(self)
        _check_form(self)
        found = _layout(self.template, self.id_header)
        id_first = found["first"] == "id"
        head = re.sub(r"\{\w+\}", "%b", self.template.removesuffix("{body}"))
        object.__setattr__(self, "head", head.encode())
        object.__setattr__(self, "id_separator", found["sep1" if id_first else "sep2"] or "")
        object.__setattr__(self, "id_first", id_first)


def _check_headers(scheme: Scheme) -> None:
    names = [scheme.signature_header, scheme.timestamp_header]
    if scheme.id_header is not None:
        names.append(scheme.id_header)
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a lower-case HTTP header name")
    if len(set(names)) < len(names):
        raise ValueError("signature, timestamp and id must come in headers of different names")


def _check_form(scheme: Scheme) -> None:
    if not re.fullmatch(rb"[!-~]{0,32}", scheme.prefix):
        raise ValueError("the signature's prefix must be at most 32 printable ASCII characters")
    if scheme.encoding not in _FORMS:
        raise ValueError(f"unknown signature encoding {scheme.encoding!r}: use hex or base64")
    unknown = sorted(set(scheme.readings) - set(READINGS))
    if unknown or not scheme.readings:
        raise ValueError(f"readings must be some of {', '.join(READINGS)}; got {unknown}")
    if not (math.isfinite(scheme.tolerance) and scheme.tolerance > 0):
        raise ValueError("the tolerance must be a positive number of seconds")


def _layout(template: str, id_header: bytes | None) -> re.Match[str]:
    found = _TEMPLATE.fullmatch(template)
    fields = [found["first"], found["second"]] if found else []
    if found is None or fields.count("timestamp") != 1 or fields.count("id") > 1:
        raise ValueError(
            "the signed template must be like {timestamp}.{body} or {id}.{timestamp}.{body}: "
            "the timestamp once, one separator after each part, the body last"
        )
    if ("id" in fields) != (id_header is not None):
        raise ValueError("an id header and {id} in the signed template need each other")
    return found


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


def _bare(secret: str) -> bytes | None:
    return secret.removeprefix(_WHSEC).encode("ascii") if secret.startswith(_WHSEC) else None


def _decoded(secret: str) -> bytes | None:
    text = secret.removeprefix(_WHSEC).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _hex(secret: str) -> bytes | None:
    return bytes.fromhex(secret) if re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", secret) else None


READINGS: Final[Mapping[str, Callable[[str], bytes | None]]] = MappingProxyType(
    {
        "text": str.encode,  # the whole text (Valyu; Parallel's earlier accounts)
        "bare": _bare,  # the text after whsec_, not decoded
        "decoded": _decoded,  # base64 after an optional whsec_ (Standard Webhooks)
        "hex": _hex,  # the text is the key in hex
    }
)

# https://docs.valyu.ai and valyu 2.13.1, `verify_contents_webhook`. Nobody says that retries are
# signed anew, so the window covers two days of them; the stored event key is the replay protection.
TIMESTAMP_BODY: Final = Scheme(
    name="timestamp.body",
    signature_header=b"x-webhook-signature",
    timestamp_header=b"x-webhook-timestamp",
    id_header=None,
    template="{timestamp}.{body}",
    prefix=b"sha256=",
    encoding="hex",
    readings=("text",),
    tolerance=48 * 3600.0,
)

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
STANDARD_WEBHOOKS: Final = Scheme(
    name="standard-webhooks",
    signature_header=b"webhook-signature",
    timestamp_header=b"webhook-timestamp",
    id_header=b"webhook-id",
    template="{id}.{timestamp}.{body}",
    prefix=b"v1,",
    encoding="base64",
    readings=("decoded", "text"),
    tolerance=300.0,
    several=True,
)

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {scheme.name: scheme for scheme in (TIMESTAMP_BODY, STANDARD_WEBHOOKS)}
)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    return value


def _ascii(value: object) -> bytes:
    return _string(value).encode("ascii", "replace")


def _header(value: object) -> bytes:
    return _ascii(value).lower()


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"must be a list of names, not {type(value).__name__}")
    return tuple(_string(name) for name in value)


_SETTINGS: Final[Mapping[str, Callable[[object], Any]]] = MappingProxyType(
    {
        "signature_header": _header,
        "timestamp_header": _header,
        "id_header": _header,
        "template": _string,
        "prefix": _ascii,
        "encoding": _string,
        "readings": _names,
    }
)


def override(scheme: Scheme, settings: Mapping[str, object], tolerance: float | None) -> Scheme:
    """The scheme as a source configures it; ValueError, one sentence, for the unknown or unsafe.

    A template without `{id}` drops the scheme's own id header: what is not signed is not read.
    """
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in _SETTINGS:
            raise ValueError(f"unknown signing setting {name!r}: use {', '.join(_SETTINGS)}")
        try:
            changes[name] = _SETTINGS[name](value)
        except ValueError as error:
            raise ValueError(f"signing setting {name}: {error}") from None
    if "{id}" not in changes.get("template", scheme.template):
        changes.setdefault("id_header", None)
    if tolerance is not None:
        changes["tolerance"] = float(tolerance)
    return replace(scheme, **changes)


def prepare(scheme: Scheme, secret: str, *, secret_id: int = 0) -> tuple[Key, ...]:
    """The keys that a secret's text can mean, in the scheme's order; at least one.

    ValueError, with what to do and without the secret, for a text that cannot be one: the wrong
    thing pasted must fail where it is pasted, not as a wall of refused deliveries.
    """
    _refuse_paste(secret)
    if "decoded" in scheme.readings and secret.startswith(_WHSEC):
        _refuse_junk(_decoded(secret))
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
            secret.removeprefix(_WHSEC).startswith(_KEY_PAIRS),
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
