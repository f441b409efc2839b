"""Made-up results of any size; the same seed and query always give the same ones."""

from random import Random
from typing import Any, TypedDict

_SUBJECTS = ("The grid", "Storage", "The market", "Demand", "The regulator", "A pilot plant")
_VERBS = ("grew", "slowed", "doubled", "was delayed", "reached operation", "was revised")
_SPANS = ("in 2024", "in 2025", "in the first quarter", "last summer", "within a year")
_FAILURES = (
    "Task exceeded maximum execution time",
    "No sources could be read",
    "The model returned no report",
)


def dice(seed: int, *about: object) -> Random:
    """Return a random generator that depends on nothing but the arguments."""
    return Random(f"{seed}:{about!r}")  # noqa: S311 (made-up content; secrets are made elsewhere)


def title(query: str) -> str:
    """Return the heading of a report: the query, shortened to one line."""
    line = " ".join(query.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def report(query: str, *, seed: int, size: int | None) -> str:
    """Return a markdown report with citations; it has exactly `size` bytes if one is given."""
    chance = dice(seed, "report", query)
    text = f"# {title(query)}\n\n" + " ".join(_sentence(chance) for _ in range(6)) + "\n"
    if size is None:
        return text
    filler = "".join(f"\n{_sentence(chance)}" for _ in range(40))
    long = (text + filler * (size // len(filler) + 1)).encode()
    whole = long[:size].decode(errors="ignore")
    return whole + "." * (size - len(whole.encode()))


def _sentence(chance: Random) -> str:
    subject, verb, span = chance.choice(_SUBJECTS), chance.choice(_VERBS), chance.choice(_SPANS)
    return f"{subject} {verb} {span} by {chance.randint(1, 90)} per cent [{chance.randint(1, 2)}]."


def failure(query: str, *, seed: int) -> str:
    """Return the reason for which a task failed."""
    return dice(seed, "failure", query).choice(_FAILURES)


def matching(schema: Any, *, seed: int, query: str) -> Any:
    """Return a value that fits the types, properties, items and enums of a JSON schema."""
    return _value(schema if isinstance(schema, dict) else {}, dice(seed, "schema", query), query)


def _value(schema: dict[str, Any], chance: Random, name: str) -> Any:
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    match kinds[0] if isinstance(kinds, list) else kinds:
        case "object":
            properties = schema.get("properties", {})
            return {key: _value(part, chance, key) for key, part in properties.items()}
        case "array":
            return [_value(schema.get("items", {}), chance, name) for _ in range(2)]
        case "integer":
            return chance.randint(1, 1000)
        case "number":
            return round(chance.uniform(0, 1000), 2)
        case "boolean":
            return chance.random() < 0.5
        case "null":
            return None
        case _:
            return f"{name} {chance.randint(1, 1000)}"


def as_toon(value: dict[str, Any]) -> str:
    """Return lines of `key: value`, which is near enough to TOON for a client that keeps text."""
    return "\n".join(f"{key}: {part}" for key, part in value.items())


class CitedSource(TypedDict):
    """One source of a result, with the fields that Valyu's SDK requires."""

    title: str
    url: str
    snippet: str
    source: str
    word_count: int
    fragment: str


def citations(query: str, *, seed: int, count: int) -> list[CitedSource]:
    """Return the sources that a result cites."""
    chance = dice(seed, "sources", query)
    return [
        {
            "title": f"Source {number} on {title(query)}",
            "url": f"https://source-{chance.randint(1, 999)}.example/{number}",
            "snippet": (sentence := _sentence(chance)),
            "source": "web",
            "word_count": chance.randint(100, 5000),
            "fragment": sentence.lower(),
        }
        for number in range(1, count + 1)
    ]


def trace(query: str, *, count: int) -> list[dict[str, Any]]:
    """Return entries of an agent's trace."""
    return [
        {"role": "assistant", "content": f"Step {number}: reading about {title(query)}"}
        for number in range(1, count + 1)
    ]
