"""Texts of a v0 run: its prompt with the arguments, and its output."""

import json
import re
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.parallel_v0.records import V0Run
from receiver.sandbox.parallel_v0.requests import Arguments
from receiver.sandbox.switches import Switches


def as_text(value: Any) -> str:
    """Return a value as part of a text: a string unchanged, null as nothing, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def filled(prompt: str, arguments: Arguments) -> str:
    """Return the prompt with each `${argument}` replaced, except unknown ones."""
    return re.sub(
        r"\$\{([^{}]+)\}",
        lambda found: as_text(arguments.get(found[1], found[0])),
        prompt,
    )


def contains(run: V0Run, marker: str) -> bool:
    """Return True if the prompt or an argument of a run contains a marker."""
    return marker in run.text or any(marker in as_text(each) for each in run.arguments.values())


def output(run: V0Run, switches: Switches) -> dict[str, Any]:
    """Return an object that fits the task's output_schema.

    The same seed, prompt and arguments always give the same output. Its first text has the size
    of the switch `output_bytes`.
    """
    about = as_text([run.text, run.arguments])
    report = content.report(run.text, seed=switches.seed, size=switches.output_bytes)
    schema = run.task.request.output_schema
    if not schema:
        return {"output": report}
    value = content.matching(schema, seed=switches.seed, query=about)
    shown = value if isinstance(value, dict) else {"output": value}
    texts = [name for name, part in shown.items() if isinstance(part, str)]
    if switches.output_bytes is not None and texts:
        shown[texts[0]] = report
    return shown
