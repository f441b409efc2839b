"""Outputs of Parallel's runs: a text or an object, and the basis of each of its fields."""

import json
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.parallel.records import ParallelRun
from receiver.sandbox.parallel.requests import JsonSchema, TextSchema
from receiver.sandbox.switches import Switches

AUTO_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "findings": {"type": "array", "items": {"type": "string"}},
        "year": {"type": "integer"},
    },
}
"""Schema of an output whose request names none."""

_CONFIDENCES = ("low", "medium", "high")


def output(run: ParallelRun, switches: Switches) -> dict[str, Any] | None:
    """Return the output of a completed run, or None.

    The same seed, input and schema always give the same output.
    """
    if run.status != "completed":
        return None
    schema = run.spec.output_schema if run.spec else None
    if isinstance(schema, str | TextSchema):
        text = content.report(run.request.text, seed=switches.seed, size=switches.output_bytes)
        return {"basis": [_basis("output", run, switches)], "type": "text", "content": text}
    if isinstance(schema, JsonSchema):
        return _json(run, schema.json_schema, switches)
    return _json(run, AUTO_SCHEMA, switches) | {"output_schema": AUTO_SCHEMA}


def _json(run: ParallelRun, schema: dict[str, Any], switches: Switches) -> dict[str, Any]:
    value = content.matching(schema, seed=switches.seed, query=run.request.text)
    filled = value if isinstance(value, dict) else {"output": value}
    texts = [name for name, part in filled.items() if isinstance(part, str)]
    if switches.output_bytes is not None and texts:
        size = switches.output_bytes
        filled[texts[0]] = content.report(run.request.text, seed=switches.seed, size=size)
    shown = json.dumps(filled, ensure_ascii=False) if switches.parallel_json_as_text else filled
    basis = [_basis(field, run, switches) for field in _fields(filled)]
    return {"basis": basis, "type": "json", "content": shown}


def _fields(filled: dict[str, Any]) -> list[str]:
    """Return the fields of an object, each followed by the elements of its list as `name.0`."""
    fields = []
    for name, part in filled.items():
        fields.append(name)
        if isinstance(part, list):
            fields.extend(f"{name}.{place}" for place in range(len(part)))
    return fields


def _basis(field: str, run: ParallelRun, switches: Switches) -> dict[str, Any]:
    about = f"{field} of {run.request.text}"
    sources = content.citations(about, seed=switches.seed, count=switches.sources)
    chance = content.dice(switches.seed, "confidence", about)
    return {
        "field": field,
        "citations": [
            {"title": each["title"], "url": each["url"], "excerpts": [each["snippet"]]}
            for each in sources
        ],
        "reasoning": f"{len(sources)} sources agree on {field}.",
        "confidence": chance.choice(_CONFIDENCES),
    }
