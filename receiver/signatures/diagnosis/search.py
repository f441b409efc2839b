"""Searches for a match in other readings, layouts, bodies and secrets."""

from collections.abc import Iterator, Sequence
from typing import Final

from receiver.signatures.diagnosis.findings import (
    KnownSecret,
    Layout,
    PossibleMac,
    PossibleMatch,
    RefusedRequest,
)
from receiver.signatures.diagnosis.variants import AS_IT_CAME, bodies, layouts, shown_macs
from receiver.signatures.keys import MIN_KEY, Key
from receiver.signatures.schemes import READINGS, Scheme

_MAX_SHOWN: Final = 16


def search(
    scheme: Scheme, request: RefusedRequest, secrets: Sequence[KnownSecret]
) -> PossibleMatch | None:
    """Return the match that is nearest to what is configured; None if there is none.

    The body as it came is tried with everything, another one only with the secrets that count
    here, and a foreign secret only in the configured layout: a match is no accident anyway.
    """
    shown = {each.mac: each for each in _by_header(scheme, request)}
    if not shown:
        return None
    keys = list(_keys(scheme, secrets))
    ways = list(layouts(scheme, request.headers))
    for name, body in bodies(request.body):
        for secret, key in keys:
            if name != AS_IT_CAME and not secret.counts_here:
                continue
            for layout in ways:
                if not secret.counts_here and layout.template != scheme.template:
                    continue
                if (found := shown.get(key.mac(layout.head, body))) is not None:
                    return PossibleMatch(secret, key.reading, found, layout, name)
    return None


def _by_header(scheme: Scheme, request: RefusedRequest) -> list[PossibleMac]:
    """Return the possible MACs; those of the configured header come last, so that they count."""
    found = list(shown_macs(request.headers))[:_MAX_SHOWN]
    return sorted(found, key=lambda each: each.header == scheme.signature_header)


def _keys(scheme: Scheme, secrets: Sequence[KnownSecret]) -> Iterator[tuple[KnownSecret, Key]]:
    """Give the secrets that count here in all readings, then the others in the configured ones."""
    seen: set[bytes] = set()
    for secret in sorted(secrets, key=lambda secret: not secret.counts_here):
        names = [*scheme.readings, *READINGS] if secret.counts_here else scheme.readings
        for name in dict.fromkeys(names):
            value = READINGS[name](secret.text)
            if value is not None and len(value) >= MIN_KEY and value not in seen:
                seen.add(value)
                yield secret, Key(value, reading=name)


def describe(found: PossibleMatch) -> dict[str, str]:
    """Describe a match, for the operator."""
    layout: Layout = found.layout
    return {
        "secret": found.secret.place,
        "reading": found.reading,
        "signature_header": found.shown.header.decode("latin-1"),
        "prefix": found.shown.prefix.decode("latin-1"),
        "encoding": found.shown.encoding,
        "signed": layout.template,
        "body": found.body,
    }
