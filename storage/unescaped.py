"""Text without its escapes, which remembers where each character was written.

A URL may stand inside another URL, or inside JSON that is itself a text: its `&` is then written
`%26` or `\\u0026` or `&amp;`, also several times over.
"""

import re
from dataclasses import dataclass

ROUNDS = 8
"""Changes from one kind of escape to another that are followed; one kind may nest without end."""

_CODE = "([2-7][0-9a-f])"
# A run of `25` or of backslashes is one escape, so that hostile text takes linear time. Octal
# escapes are those of C; the others are those of URLs, `escape()`, JSON, JavaScript, Python, HTML.
_ESCAPE = re.compile(
    rf"%(?P<nested>(?:25)*)(?:u00)?{_CODE}"
    rf"|\\++(?:u00|x|U0{{6}}){_CODE}"
    rf"|\\++u\{{0*{_CODE}\}}"
    r"|\\++([/\"'])"
    r"|\\++(?P<octal>[01][0-7]{2})"
    r"|\\(\\)\\*"
    r"|&\#0*(?P<decimal>3[2-9]|[4-9][0-9]|1[0-2][0-9]);?"
    rf"|&\#x0*{_CODE};?"
    r"|&(?P<named>amp|equals|quest|semi|num|percnt|lowbar|period|plus|sol|bsol);",
    re.IGNORECASE,
)
_NAMED = dict(
    zip(
        ("amp", "equals", "quest", "semi", "num", "percnt", "lowbar", "period", "plus", "sol"),
        "&=?;#%_.+/",
        strict=True,
    )
) | {"bsol": "\\"}


@dataclass(frozen=True, slots=True)
class Unescaped:
    """A text without escapes. `places` has each character's start in the text as it was written.

    The last place is the end of the written text. `levels` counts how often each character was
    percent-encoded: a value ends only at a character that is of its own URL.
    """

    text: str
    places: list[int]
    levels: bytes

    @classmethod
    def of(cls, text: str) -> "Unescaped":
        """Return the text without the escapes of printable ASCII."""
        found = cls(text, list(range(len(text) + 1)), bytes(len(text)))
        for _ in range(ROUNDS):
            after = found._once()
            if after is found:
                break
            found = after
        return found

    def _once(self) -> "Unescaped":
        texts: list[str] = []
        places: list[int] = []
        levels = bytearray()
        last = 0
        for escape in _ESCAPE.finditer(self.text):
            start, end = escape.span()
            texts += self.text[last:start], _meant(escape)
            places += self.places[last:start]
            places.append(self.places[start])
            levels += self.levels[last:start]
            levels.append(min(max(self.levels[start:end]) + _percent_levels(escape), 255))
            last = end
        if not last:
            return self
        places += self.places[last:]
        levels += self.levels[last:]
        return Unescaped("".join([*texts, self.text[last:]]), places, bytes(levels))


def _percent_levels(escape: re.Match[str]) -> int:
    nested = escape["nested"]
    return 0 if nested is None else 1 + len(nested) // 2


def _meant(escape: re.Match[str]) -> str:
    found = escape[escape.lastindex or 0]
    match escape.lastgroup:
        case "octal":
            return chr(int(found, 8))
        case "decimal":
            return chr(int(found))
        case "named":
            return _NAMED[found.lower()]
    return chr(int(found, 16)) if len(found) == 2 else found
