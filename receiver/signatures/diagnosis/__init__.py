"""Explains why a request was refused, and what to set or do. Pure: bytes in, findings out.

For the operator alone: the sender only ever sees one 401.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from receiver.errors import SignatureError
from receiver.signatures.diagnosis.advice import advise
from receiver.signatures.diagnosis.findings import (
    CheckedSecret,
    Diagnosis,
    ExpectedHeader,
    Headers,
    KnownSecret,
    PossibleMatch,
    RefusedRequest,
)
from receiver.signatures.diagnosis.search import describe, search
from receiver.signatures.keys import MIN_KEY, BearerToken, Key
from receiver.signatures.schemes import READINGS, AnyScheme, Bearer, Scheme
from receiver.signatures.verify import seconds, verify

__all__ = ["Diagnosis", "Headers", "KnownSecret", "RefusedRequest", "diagnose"]

_LIKE: Final = {
    "token": re.compile(r"auth|token"),
    "signature": re.compile(r"signature|hmac|(^|-)sig(-|$)|secret"),
    "timestamp": re.compile(r"timestamp|(^|-)(time|ts)(-|$)"),
    "id": re.compile(r"(webhook|svix|event|message|delivery)(-.*)?-id$"),
}


def diagnose(
    scheme: AnyScheme, request: RefusedRequest, secrets: Sequence[KnownSecret], keys: Sequence[Key]
) -> Diagnosis:
    """Explain a refusal; never raises, whatever was kept of the request.

    `keys` are those that today's settings try, `secrets` all that are registered.
    """
    signed = scheme.signature if isinstance(scheme, Bearer) else scheme
    secrets = [secret for secret in secrets if secret.text.isascii()]
    found = search(signed, request, secrets) if signed is not None and request.is_whole else None
    outcome = None if signed is None else _outcome(signed, request, keys)
    seen = Diagnosis(
        scheme=scheme.name if signed is None or signed is scheme else f"bearer, {signed.name}",
        headers=tuple(_expected(scheme, signed, request)),
        tried=tuple(_checked(scheme, signed, secrets)),
        skew=None if signed is None else _skew(signed, found, request),
        tolerance=None if signed is None or signed.timestamp_header is None else signed.tolerance,
        would_match=None if found is None else describe(found),
        advice="",
    )
    return replace(seen, advice=advise(request, scheme, secrets, found, outcome, seen))


def _outcome(signed: Scheme, request: RefusedRequest, keys: Sequence[Key]) -> SignatureError | None:
    """Verify the signature with today's keys, by the clock at its receipt."""
    signing = [key for key in keys if not isinstance(key, BearerToken)]
    try:
        verify(signed, signing, request.headers, request.body, now=request.received_at)
    except SignatureError as refusal:
        return refusal
    return None


def _expected(
    scheme: AnyScheme, signed: Scheme | None, request: RefusedRequest
) -> Iterator[ExpectedHeader]:
    came = dict(request.headers)
    if isinstance(scheme, Bearer):
        yield _expected_token(scheme, signed, request)
    if signed is None:
        return
    parts = {
        "signature": signed.signature_header,
        "timestamp": signed.timestamp_header,
        "id": signed.id_header,
    }
    for part, expected in parts.items():
        if expected is not None:
            others = [name for name in came if name not in parts.values()]
            texts = (name.decode("latin-1") for name in others)
            alike = () if came.get(expected) else tuple(t for t in texts if _LIKE[part].search(t))
            yield ExpectedHeader(expected.decode(), bool(came.get(expected)), alike)


def _expected_token(
    scheme: Bearer, signed: Scheme | None, request: RefusedRequest
) -> ExpectedHeader:
    """Say whether the token's header came: its name alone is kept, and not of older requests."""
    header = scheme.header.decode()
    names = dict.fromkeys(name for name, _ in request.headers)
    if request.reason == "missing" and header in request.detail:
        read = {scheme.header, signed and signed.signature_header}
        texts = [name.decode("latin-1") for name in names if name not in read]
        return ExpectedHeader(header, False, tuple(t for t in texts if _LIKE["token"].search(t)))
    return ExpectedHeader(header, True if scheme.header in names else None)


def _checked(
    scheme: AnyScheme, signed: Scheme | None, secrets: Sequence[KnownSecret]
) -> Iterator[CheckedSecret]:
    """Give the secrets that count here; a token's two readings come before the others."""
    tokens = ("text", "derived") if isinstance(scheme, Bearer) else ()
    for secret in secrets:
        if secret.counts_here:
            names = signed.readings if signed else ()
            usable = (n for n in names if len(READINGS[n](secret.text) or b"") >= MIN_KEY)
            yield CheckedSecret(secret.place, (*tokens, *usable))


def _skew(signed: Scheme, found: PossibleMatch | None, request: RefusedRequest) -> float | None:
    header = found.layout.timestamp_header if found else signed.timestamp_header
    try:
        sent = dict(request.headers).get(header or b"", b"")
        return round(request.received_at - seconds(sent), 3)
    except SignatureError:
        return None
