"""Made-up results: the same seed and query always give the same ones, and they can be any size."""

from random import Random
from typing import Any

_SUBJECTS = ("The grid", "Storage", "The market", "Demand", "The regulator", "A pilot plant")
_VERBS = ("grew", "slowed", "doubled", "was delayed", "reached operation", "was revised")
_SPANS = ("in 2024", "in 2025", "in the first quarter", "last summer", "within a year")
_FAILURES = (
    "Task exceeded maximum execution time",
    "No sources could be read",
    "The model returned no report",
)


def dice(seed: int, *about: object) -> Random:
    """A source of chance that depends on nothing but its arguments."""
    return Random(f"{seed}:{about!r}")  # noqa: S311 (made-up content; secrets are made elsewhere)


def title(query: str) -> str:
    """The heading of a report: the query, shortened to one line."""
    line = " ".join(query.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def report(query: str, *, seed: int, size: int | None) -> str:
    """A markdown report with citations; of exactly `size` bytes if one is given."""
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
    """Why a task failed."""
    return dice(seed, "failure", query).choice(_FAILURES)


def matching(schema: Any, *, seed: int, query: str) -> Any:
    """A value that fits a JSON schema, as far as types, properties, items and enums go."""
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
    """The value as lines of `key: value`, near enough to TOON for a reader who keeps text."""
    return "\n".join(f"{key}: {part}" for key, part in value.items())


def sources(query: str, *, seed: int, count: int) -> list[dict[str, Any]]:
    """Cited sources, with the fields the official SDK insists on."""
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
    """Entries of an agent's trace."""
    return [
        {"role": "assistant", "content": f"Step {number}: reading about {title(query)}"}
        for number in range(1, count + 1)
    ]
