"""The search for what would have matched: other readings, layouts, bodies, secrets."""

from collections.abc import Iterator, Sequence
from typing import Final

from receiver.signatures.diagnosis.findings import Found, Kept, Known, Layout, Shown
from receiver.signatures.diagnosis.variants import AS_IT_CAME, bodies, layouts, shown_macs
from receiver.signatures.keys import MIN_KEY, Key
from receiver.signatures.schemes import READINGS, Scheme

_MAX_SHOWN: Final = 16


def search(scheme: Scheme, kept: Kept, knowns: Sequence[Known]) -> Found | None:
    """The first thing that fits, nearest to what is configured; None if nothing does.

    The body as it came is tried with everything, another one only with the secrets that count
    here, and a foreign secret only in the configured layout: a match is no accident anyway.
    """
    shown = {each.mac: each for each in _by_header(scheme, kept)}
    if not shown:
        return None
    keys = list(_keys(scheme, knowns))
    ways = list(layouts(scheme, kept.headers))
    for name, body in bodies(kept.body):
        for known, key in keys:
            if name != AS_IT_CAME and not known.is_tried:
                continue
            for layout in ways:
                if not known.is_tried and layout.template != scheme.template:
                    continue
                if (found := shown.get(key.mac(layout.head, body))) is not None:
                    return Found(known, key.reading, found, layout, name)
    return None


def _by_header(scheme: Scheme, kept: Kept) -> list[Shown]:
    """What is shown in the configured header comes last, so that it counts."""
    found = list(shown_macs(kept.headers))[:_MAX_SHOWN]
    return sorted(found, key=lambda each: each.header == scheme.signature_header)


def _keys(scheme: Scheme, knowns: Sequence[Known]) -> Iterator[tuple[Known, Key]]:
    """The secrets that count here in all readings, then the others in the configured ones."""
    seen: set[bytes] = set()
    for known in sorted(knowns, key=lambda known: not known.is_tried):
        names = [*scheme.readings, *READINGS] if known.is_tried else scheme.readings
        for name in dict.fromkeys(names):
            value = READINGS[name](known.text)
            if value is not None and len(value) >= MIN_KEY and value not in seen:
                seen.add(value)
                yield known, Key(value, reading=name)


def describe(found: Found) -> dict[str, str]:
    """What would have matched, in words."""
    layout: Layout = found.layout
    return {
        "secret": found.known.place,
        "reading": found.reading,
        "signature_header": found.shown.header.decode("latin-1"),
        "prefix": found.shown.prefix.decode("latin-1"),
        "encoding": found.shown.encoding,
        "signed": layout.template,
        "body": found.body,
    }
