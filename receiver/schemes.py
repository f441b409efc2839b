"""How senders sign, as data: header names, what is signed, how a MAC and a secret are written.

A scheme is chosen per source by configuration and never guessed from a request: the same header
names and the same `whsec_` prefix mean different things at different senders.
"""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal

WHSEC: Final = "whsec_"
ENCODINGS: Final = ("hex", "base64")

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,100}")
_TEMPLATE: Final = re.compile(
    r"(?P<lead>[ -$&-z|~]{0,32})"
    r"\{(?P<first>id|timestamp)\}(?P<sep1>[-.:;,|/ \n])"
    r"(?:\{(?P<second>id|timestamp)\}(?P<sep2>[-.:;,|/ \n]))?"
    r"\{body\}"
)


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
    if scheme.encoding not in ENCODINGS:
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
