"""Verifies a request and builds the delivery that is stored: the one way in. Pure.

The intake verifies what comes now, `receiver.intake.rejected` what was refused before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from receiver.intake.identity import identify
from receiver.signatures.verify import Key, Match, verify
from receiver.sources import Source
from storage import EndpointView, VerifiedDelivery

Headers = list[tuple[bytes, bytes]]

HIDDEN = b"[hidden]"
"""Kept in place of the value of a header whose name alone may be stored."""


@dataclass(slots=True)  # not frozen: see Match
class Verified:
    """A delivery proven genuine, and what proves it."""

    match: Match
    delivery: VerifiedDelivery


def verify_delivery(
    source: Source,
    view: EndpointView | None,
    keys: Sequence[Key],
    headers: Headers,
    body: bytes,
    *,
    now: float,
) -> Verified:
    """Verify the raw bytes, then identify the event; raises SignatureError.

    `view` is the endpoint of the request, None for the account's own URL. An endpoint for the
    account stands for that URL, so that an event has one key at all of them.
    """
    match = verify(source.scheme, keys, headers, body, now=now)
    digest = sha256(body).digest()
    identity = identify(
        view,
        source.provider.identify(body),
        match.message_id,
        digest,
        kinds=source.provider.kinds,
        is_signed=source.signs_bodies,
    )
    delivery = VerifiedDelivery(
        source=source.name,
        endpoint_id=None if view is None else view.id,
        headers=kept_headers(headers, source),
        body=body,
        digest=digest,
        key=identity.key,
        disposition=identity.disposition,
        subject_kind=identity.subject_kind,
        subject=identity.subject,
        reason=identity.reason,
        awaits_end=identity.awaits_end,
        hints=identity.hints,
    )
    return Verified(match, delivery)


def kept_headers(headers: Headers, source: Source) -> str:
    """Return the headers as lines of text, without the values that look like credentials."""
    not_kept, is_hidden = source.not_kept, source.is_hidden
    if is_hidden is not None:
        headers = [(name, HIDDEN if is_hidden(name) else value) for name, value in headers]
    kept = [b"%b: %b\n" % header for header in headers if header[0] not in not_kept]
    return b"".join(kept).decode("latin-1").replace("\x00", "\ufffd")


def read_headers(kept: str) -> Headers:
    """Return the headers as they came, from `kept_headers`; a NUL becomes a question mark."""
    pairs = (line.partition(": ") for line in kept.split("\n") if line)
    return [(name.encode("latin-1", "replace"), _bytes(value)) for name, _, value in pairs]


def _bytes(value: str) -> bytes:
    return value.encode("latin-1", "replace")
