"""Gives the variants of a refused request: MACs, signed heads, and bodies before a change.

Nothing here is ever believed: `receiver.signatures.verify` alone decides what is genuine.
"""

import base64
import json
import re
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

from receiver.signatures.diagnosis.findings import Headers, Layout, PossibleMac
from receiver.signatures.schemes import Scheme

AS_IT_CAME: Final = "as it came"

TEMPLATES: Final = (
    "{timestamp}.{body}",
    "{id}.{timestamp}.{body}",
    "{body}",
    "v0:{timestamp}:{body}",
    "{timestamp}:{body}",
    "{timestamp}\n{body}",
    "{timestamp}{body}",
)

_HEX: Final = re.compile(rb"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])")
_BASE64: Final = re.compile(rb"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43}=?(?![A-Za-z0-9+/=_-])")
_STAMP: Final = re.compile(rb"[0-9]{10,13}")
_INNER_STAMP: Final = re.compile(rb"(?:^|[,; ])t=([0-9]{10,13})(?![0-9])")
"""A timestamp beside the signature in one header: https://docs.stripe.com/webhooks/signature"""
_ID_NAME: Final = re.compile(rb"(?:.*-)?(?:id|uuid|guid)")
_MAX_VALUES: Final = 4


def shown_macs(headers: Headers) -> Iterator[PossibleMac]:
    """Give everything in the headers that has the form of an HMAC-SHA256."""
    for name, value in headers:
        for found in _HEX.finditer(value):
            text = found[0]
            mac = bytes.fromhex(text.decode())
            yield PossibleMac(mac, name, _before(value, found), "hex", text == text.lower())
        for found in _BASE64.finditer(value):
            text = found[0].replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=") + b"="
            mac = base64.b64decode(text)
            is_canonical = base64.b64encode(mac) == found[0]
            yield PossibleMac(mac, name, _before(value, found), "base64", is_canonical)


def _before(value: bytes, found: re.Match[bytes]) -> bytes:
    return value[: found.start()].rpartition(b" ")[2]


def layouts(scheme: Scheme, headers: Headers) -> Iterator[Layout]:
    """Give every way in which the headers may have been signed; the configured one comes first."""
    stamps = _first(_stamps(_sorted(headers, scheme.timestamp_header)))
    ids = _first(
        (n, v)
        for n, v in _sorted(headers, scheme.id_header)
        if v and (n == scheme.id_header or _ID_NAME.fullmatch(n))
    )
    seen = set()
    for template in dict.fromkeys((scheme.template, *TEMPLATES)):
        for stamp, message_id in product(
            stamps if "{timestamp}" in template else [None],
            ids if "{id}" in template else [None],
        ):
            head = _head(template, stamp, message_id)
            if (template, head) not in seen:
                seen.add((template, head))
                yield Layout(template, stamp and stamp[0], message_id and message_id[0], head)


def _stamps(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    yield from ((name, value) for name, value in headers if _STAMP.fullmatch(value))
    for name, value in headers:
        if found := _INNER_STAMP.search(value):
            yield name, found[1]


def _sorted(headers: Headers, first: bytes | None) -> Headers:
    return sorted(headers, key=lambda header: header[0] != first)


def _first(headers: Iterator[tuple[bytes, bytes]]) -> Headers:
    return list(dict.fromkeys(headers))[:_MAX_VALUES]


def _head(
    template: str, stamp: tuple[bytes, bytes] | None, message_id: tuple[bytes, bytes] | None
) -> bytes:
    head = template.removesuffix("{body}").encode()
    head = head.replace(b"{timestamp}", stamp[1] if stamp else b"")
    return head.replace(b"{id}", message_id[1] if message_id else b"")


# --- bodies -------------------------------------------------------------------------------------

_FORMS: Final[dict[str, dict[str, Any]]] = {
    "compact": {"separators": (",", ":")},
    "with spaces": {"separators": (", ", ": ")},
}
_PRETTY: Final[dict[str, dict[str, Any]]] = {
    "pretty, 2 spaces": {"indent": 2},
    "pretty, 4 spaces": {"indent": 4},
}
_MAX_DEPTH: Final = 50
"""Depth from which on no pretty form is made: it would grow beyond all bounds."""


def bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the body as it came, and as it may have been before a proxy wrote it anew."""
    seen = {body}
    yield AS_IT_CAME, body
    for name, text in _written_anew(body):
        if text not in seen:
            seen.add(text)
            yield name, text


def _written_anew(body: bytes) -> Iterator[tuple[str, bytes]]:
    bare = body.strip(b" \t\r\n")
    yield "without white space around it", bare
    yield "with a line end behind it", bare + b"\n"
    yield "with CRLF behind it", bare + b"\r\n"
    yield "with LF for CRLF", body.replace(b"\r\n", b"\n")
    try:
        data = json.loads(body)
        forms = _FORMS | _PRETTY if _depth(body) <= _MAX_DEPTH else _FORMS
        for sort, ascii_, (name, form) in product((False, True), (True, False), forms.items()):
            said = f"{name}{', keys sorted' if sort else ''}{', ASCII only' if ascii_ else ''}"
            text = json.dumps(data, sort_keys=sort, ensure_ascii=ascii_, **form)
            written = text.encode("utf-8", "surrogatepass")
            yield said, written
            yield f"{said}, a line end behind it", written + b"\n"
            yield f"{said}, slashes escaped", written.replace(b"/", b"\\/")
    except (ValueError, RecursionError):
        return


def _depth(body: bytes) -> int:
    """Return how deep brackets are nested at most; those inside of strings count too."""
    deepest = depth = 0
    for byte in body:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
