"""Text without its escapes, which remembers where each character was written.

A URL may stand inside another URL, or inside JSON that is itself a text: its `&` is then written
`%26` or `\\u0026` or `&amp;`, also several times over.
"""

import re
from dataclasses import dataclass

ROUNDS = 8
"""Nested spellings that are followed; a text of nothing but `%25` must not take forever."""

_ESCAPE = re.compile(
    r"%([2-7][0-9a-f])|\\(?:u00|x)([2-7][0-9a-f])|\\([/\"'\\])|&(?:amp|\#38|\#x26);",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Unescaped:
    """A text without escapes. `places` has each character's start in the text as it was written.

    The last place is the end of the written text. `levels` counts how often each character was
    percent-encoded: a value ends only at an `&` that is of its own URL.
    """

    text: str
    places: list[int]
    levels: bytes

    @classmethod
    def of(cls, text: str) -> "Unescaped":
        """Return the text without percent-encoding, JSON's and HTML's escapes of ASCII."""
        found = cls(text, list(range(len(text) + 1)), bytes(len(text)))
        for _ in range(ROUNDS):
            after = found._once()
            if after is found:
                break
            found = after
        return found

    def _once(self) -> "Unescaped":
        escapes = list(_ESCAPE.finditer(self.text))
        if not escapes:
            return self
        starts = [0, *(escape.end() for escape in escapes)]
        ends = [*(escape.start() for escape in escapes), len(self.text)]
        texts = [self.text[: ends[0]]]
        places = self.places[: ends[0]]
        levels = bytearray(self.levels[: ends[0]])
        for escape, start, end in zip(escapes, starts[1:], ends[1:], strict=True):
            texts += _meant(escape), self.text[start:end]
            places += self.places[escape.start()], *self.places[start:end]
            level = max(self.levels[escape.start() : start]) + (escape[1] is not None)
            levels += bytes([level]) + self.levels[start:end]
        return Unescaped("".join(texts), [*places, self.places[-1]], bytes(levels))


def _meant(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else escape[3] or "&"
