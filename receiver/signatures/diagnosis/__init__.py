"""Why was a request refused, and what has to be set or done? Pure: bytes in, findings out.

For the operator alone: the sender only ever sees one 401.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from receiver.errors import SignatureError
from receiver.signatures.diagnosis.advice import advise
from receiver.signatures.diagnosis.findings import (
    Diagnosis,
    Found,
    Headers,
    Kept,
    Known,
    TriedSecret,
    Wanted,
)
from receiver.signatures.diagnosis.search import describe, search
from receiver.signatures.keys import MIN_KEY, Key, Token
from receiver.signatures.schemes import READINGS, AnyScheme, Bearer, Scheme
from receiver.signatures.verify import seconds, verify

__all__ = ["Diagnosis", "Headers", "Kept", "Known", "diagnose"]

_LIKE: Final = {
    "token": re.compile(r"auth|token"),
    "signature": re.compile(r"signature|hmac|(^|-)sig(-|$)|secret"),
    "timestamp": re.compile(r"timestamp|(^|-)(time|ts)(-|$)"),
    "id": re.compile(r"(webhook|svix|event|message|delivery)(-.*)?-id$"),
}


def diagnose(
    scheme: AnyScheme, kept: Kept, knowns: Sequence[Known], keys: Sequence[Key]
) -> Diagnosis:
    """Explain a refusal. `keys` are those that today's settings would try, `knowns` all there are.

    Never raises, whatever was kept.
    """
    signed = scheme.signature if isinstance(scheme, Bearer) else scheme
    knowns = [known for known in knowns if known.text.isascii()]
    found = search(signed, kept, knowns) if signed is not None and kept.is_whole else None
    outcome = None if signed is None else _outcome(signed, kept, keys)
    seen = Diagnosis(
        scheme=scheme.name if signed is None or signed is scheme else f"bearer, {signed.name}",
        headers=tuple(_wanted(scheme, signed, kept)),
        tried=tuple(_tried(scheme, signed, knowns)),
        skew=None if signed is None else _skew(signed, found, kept),
        tolerance=None if signed is None or signed.timestamp_header is None else signed.tolerance,
        would_match=None if found is None else describe(found),
        advice="",
    )
    return replace(seen, advice=advise(kept, scheme, knowns, found, outcome, seen))


def _outcome(signed: Scheme, kept: Kept, keys: Sequence[Key]) -> SignatureError | None:
    """What we would say of the signature today, judged by the clock at its receipt."""
    signing = [key for key in keys if not isinstance(key, Token)]
    try:
        verify(signed, signing, kept.headers, kept.body, now=kept.received_at)
    except SignatureError as refusal:
        return refusal
    return None


def _wanted(scheme: AnyScheme, signed: Scheme | None, kept: Kept) -> Iterator[Wanted]:
    came = dict(kept.headers)
    if isinstance(scheme, Bearer):
        yield _wanted_token(scheme, signed, kept)
    if signed is None:
        return
    parts = {
        "signature": signed.signature_header,
        "timestamp": signed.timestamp_header,
        "id": signed.id_header,
    }
    for part, wanted in parts.items():
        if wanted is not None:
            others = [name for name in came if name not in parts.values()]
            texts = (name.decode("latin-1") for name in others)
            alike = () if came.get(wanted) else tuple(t for t in texts if _LIKE[part].search(t))
            yield Wanted(wanted.decode(), bool(came.get(wanted)), alike)


def _wanted_token(scheme: Bearer, signed: Scheme | None, kept: Kept) -> Wanted:
    """Of a token only its header's name is kept, and of older requests not even that."""
    header = scheme.header.decode()
    names = dict.fromkeys(name for name, _ in kept.headers)
    if kept.reason == "missing" and header in kept.detail:
        read = {scheme.header, signed and signed.signature_header}
        texts = [name.decode("latin-1") for name in names if name not in read]
        return Wanted(header, False, tuple(t for t in texts if _LIKE["token"].search(t)))
    return Wanted(header, True if scheme.header in names else None)


def _tried(
    scheme: AnyScheme, signed: Scheme | None, knowns: Sequence[Known]
) -> Iterator[TriedSecret]:
    """The secrets that count here; those of a token have its two readings before the others."""
    tokens = ("text", "derived") if isinstance(scheme, Bearer) else ()
    for known in knowns:
        if known.is_tried:
            names = signed.readings if signed else ()
            usable = (n for n in names if len(READINGS[n](known.text) or b"") >= MIN_KEY)
            yield TriedSecret(known.place, (*tokens, *usable))


def _skew(signed: Scheme, found: Found | None, kept: Kept) -> float | None:
    header = found.layout.timestamp_header if found else signed.timestamp_header
    try:
        sent = dict(kept.headers).get(header or b"", b"")
        return round(kept.received_at - seconds(sent), 3)
    except SignatureError:
        return None
