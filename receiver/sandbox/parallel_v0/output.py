"""What a v0 run is made of: its prompt filled in, and the output it brings."""

import json
import re
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.parallel_v0.records import Run
from receiver.sandbox.parallel_v0.requests import Arguments
from receiver.sandbox.switches import Switches


def as_text(value: Any) -> str:
    """A value within a text: strings as they are, nothing for null, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def filled(prompt: str, arguments: Arguments) -> str:
    """The prompt with each `${argument}` replaced, and left standing where there is none."""
    return re.sub(
        r"\$\{([^{}]+)\}",
        lambda found: as_text(arguments.get(found[1], found[0])),
        prompt,
    )


def says(run: Run, marker: str) -> bool:
    """Whether a marker stands in the prompt or the arguments of a run."""
    return marker in run.text or any(marker in as_text(each) for each in run.arguments.values())


def output(run: Run, switches: Switches) -> dict[str, Any]:
    """An object that fits the task's output_schema: the same for the same seed, prompt, arguments.

    Where the sandbox has been given a size for outputs, the first text has it.
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
