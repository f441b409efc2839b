"""Signature schemes as data: header names, the signed template, the readings of secrets.

A scheme is chosen per source by configuration and never guessed from a request: the same header
names and the same `whsec_` prefix mean different things at different senders.
"""

import base64
import hmac
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

WHSEC: Final = "whsec_"
ENCODINGS: Final = ("hex", "base64")

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,100}")
_OWNED: Final = frozenset(
    b"accept accept-charset accept-encoding accept-language connection content-encoding"
    b" content-language content-length content-location content-range content-type cookie date"
    b" expect forwarded from host keep-alive max-forwards origin pragma proxy-authenticate"
    b" proxy-authorization proxy-connection range referer set-cookie te trailer transfer-encoding"
    b" upgrade user-agent via www-authenticate".split()
)
"""Headers that HTTP, its clients and its proxies write: no sender can prove anything in them."""
_TEMPLATE: Final = re.compile(
    r"(?P<lead>[ -$&-z|~]{0,32})"
    r"\{(?P<first>id|timestamp)\}(?P<sep1>[-.:;,|/ \n])"
    r"(?:\{(?P<second>id|timestamp)\}(?P<sep2>[-.:;,|/ \n]))?"
    r"\{body\}"
)

TEMPLATE: Final = (
    "the signed template must be like {timestamp}.{body} or {id}.{timestamp}.{body}: "
    "the timestamp once, one separator after each part, the body last"
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """Scheme of one kind of sender; raises ValueError for one that cannot be checked safely.

    `template` names what is signed: `{timestamp}` and perhaps `{id}`, each followed by one
    separator, then `{body}`. An id that holds the separator is refused by `verify`, and timestamps
    are digits, so the same signed bytes can never be cut into another id, timestamp and body: the
    id becomes an event key and must not be movable. (Standard Webhooks joins with "." too.)
    `several` says that the signature header is a list, separated by spaces. Without a timestamp
    the template is `{body}` alone: a copy is then as good as the original however late it comes,
    so that such a scheme is for use beside a token only (see `Bearer`).
    """

    name: str
    signature_header: bytes
    timestamp_header: bytes | None
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
        id_first, separator = _layout(self)
        head = re.sub(r"\{\w+\}", "%b", self.template.removesuffix("{body}"))
        object.__setattr__(self, "head", head.encode())
        object.__setattr__(self, "id_separator", separator)
        object.__setattr__(self, "id_first", id_first)


def _check_headers(scheme: Scheme) -> None:
    given = (scheme.signature_header, scheme.timestamp_header, scheme.id_header)
    names = [name for name in given if name is not None]
    for name in names:
        _check_name(name)
    if len(set(names)) < len(names):
        raise ValueError("signature, timestamp and id must come in headers of different names")


def _check_name(name: bytes) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a lower-case HTTP header name")
    if name in _OWNED:
        raise ValueError(f"the header {name.decode()} is HTTP's own: name one that the sender adds")


def _check_form(scheme: Scheme) -> None:
    if not re.fullmatch(rb"[!-~]{0,32}", scheme.prefix):
        raise ValueError("the signature's prefix must be at most 32 printable ASCII characters")
    if scheme.encoding not in ENCODINGS:
        raise ValueError(f"unknown signature encoding {scheme.encoding!r}: use hex or base64")
    unknown = sorted(set(scheme.readings) - set(READINGS))
    if unknown or not scheme.readings:
        raise ValueError(f"readings must be some of {', '.join(READINGS)}; got {unknown}")
    if not (math.isfinite(scheme.tolerance) and scheme.tolerance > 0):
        raise ValueError("the tolerance must be a positive number of seconds")


def _layout(scheme: Scheme) -> tuple[bool, str]:
    """Return True if the id comes first in the template, and the separator after it."""
    if scheme.template == "{body}":
        if scheme.timestamp_header is not None or scheme.id_header is not None:
            raise ValueError(f"what is not signed is not read: {TEMPLATE}")
        return False, ""
    found = _TEMPLATE.fullmatch(scheme.template)
    fields = [found["first"], found["second"]] if found else []
    if found is None or fields.count("timestamp") != 1 or fields.count("id") > 1:
        raise ValueError(TEMPLATE)
    if scheme.timestamp_header is None:
        raise ValueError("{timestamp} in the signed template needs a timestamp header")
    if ("id" in fields) != (scheme.id_header is not None):
        raise ValueError("an id header and {id} in the signed template need each other")
    id_first = found["first"] == "id"
    return id_first, found["sep1" if id_first else "sep2"] or ""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Scheme of a sender that shows a token of ours; it signs as well where `signature` is set.

    In `authorization` the token stands behind the word Bearer; in another header it may be alone.
    """

    name: str = "bearer"
    header: bytes = b"authorization"
    signature: Scheme | None = None

    def __post_init__(self) -> None:
        _check_name(self.header)
        signed = self.signature
        if signed and self.header in (signed.signature_header, signed.timestamp_header):
            raise ValueError("token and signature must come in headers of different names")


AnyScheme = Scheme | Bearer


def bearer_token(secret: str) -> str:
    """Return the token for a sender that is also given `secret` to sign with.

    Whoever sees the header, in a log or at a proxy, cannot find the secret in it, and so not sign.
    """
    return hmac.digest(secret.encode(), b"resultsink bearer token", "sha256").hex()


def _bare(secret: str) -> bytes | None:
    return secret.removeprefix(WHSEC).encode("ascii") if secret.startswith(WHSEC) else None


def _decoded(secret: str) -> bytes | None:
    text = secret.removeprefix(WHSEC).rstrip("=")
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

# Where nothing is known but that a secret makes a MAC of the message (Parallel v0): to be used
# beside a token, with the header's name and whatever else turns out to differ as settings.
BODY: Final = Scheme(
    name="body",
    signature_header=b"x-webhook-signature",
    timestamp_header=None,
    id_header=None,
    template="{body}",
    prefix=b"",
    encoding="hex",
    readings=("text",),
    tolerance=300.0,
)

# https://docs.parallel.ai/v0api/batches/batch_runs: headers of ours are the one documented check.
BEARER: Final = Bearer()

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {scheme.name: scheme for scheme in (TIMESTAMP_BODY, STANDARD_WEBHOOKS)}
)
