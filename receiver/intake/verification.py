"""Proving a request genuine and saying which event it is: the one way in. Pure.

The intake uses it for what comes now, `receiver.intake.rejected` for what was refused before.
"""

from collections.abc import Sequence
from hashlib import sha256

from receiver.intake.identity import meaning
from receiver.signatures.verify import Key, Match, verify
from receiver.sources import Source
from storage import EndpointView, VerifiedDelivery

Headers = list[tuple[bytes, bytes]]

HIDDEN = b"[hidden]"
"""What is kept for the value of a header whose name alone may be stored."""


def prove(
    source: Source,
    view: EndpointView | None,
    keys: Sequence[Key],
    headers: Headers,
    body: bytes,
    *,
    now: float,
) -> tuple[Match, VerifiedDelivery]:
    """Who signed it and what it means; raises SignatureError where that is not proven.

    `view` is the endpoint it came to, None for the account's own URL. An endpoint for the account
    means what that URL means, so that an event has one key at all of them.
    """
    match = verify(source.scheme, keys, headers, body, now=now)
    digest = sha256(body).digest()
    announced = source.provider.identify(body)
    bound = None if view is None or view.kind == "account" else view
    return match, VerifiedDelivery(
        source=source.name,
        endpoint_id=None if view is None else view.id,
        headers=kept_headers(headers, source),
        body=body,
        digest=digest,
        **meaning(
            bound,
            announced,
            match.message_id,
            digest,
            kinds=source.provider.kinds,
            is_signed=source.signs_bodies,
        ),
    )


def kept_headers(headers: Headers, source: Source) -> str:
    """The headers as lines of text, without what looks like a credential to this source."""
    not_kept, is_hidden = source.not_kept, source.is_hidden
    if is_hidden is not None:
        headers = [(name, HIDDEN if is_hidden(name) else value) for name, value in headers]
    kept = [b"%b: %b\n" % header for header in headers if header[0] not in not_kept]
    return b"".join(kept).decode("latin-1").replace("\x00", "\ufffd")


def read_headers(kept: str) -> Headers:
    """The headers as they came, from `kept_headers`; what was no text stays malformed."""
    pairs = (line.partition(": ") for line in kept.split("\n") if line)
    return [(name.encode("latin-1", "replace"), _bytes(value)) for name, _, value in pairs]


def _bytes(value: str) -> bytes:
    return value.encode("latin-1", "replace")
