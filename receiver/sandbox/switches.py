"""Every unknown of the contracts as a switch; each sender's are in a file of their own."""

import json
from collections.abc import Sequence
from typing import Any

from receiver.sandbox.parallel.switches import ParallelSwitches
from receiver.sandbox.parallel_v0.switches import V0Switches
from receiver.sandbox.settings import Forgery, SandboxError, first_fault, parse
from receiver.sandbox.switches_common import CommonSwitches, Fault

__all__ = [
    "Fault",
    "Forgery",
    "Panel",
    "SandboxError",
    "Switches",
    "assignments",
    "described",
    "first_fault",
    "parse",
]


class Switches(V0Switches, ParallelSwitches, CommonSwitches):
    """How this sandbox behaves. Replace some at run time with PUT /_sandbox/switches.

    The bases come last first: the help lists what all share before what one sender has.
    """


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Switches written as `name=value`, the value as JSON or else as plain text."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SandboxError(f"write a switch as name=value, not {text!r}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values


def described() -> list[tuple[str, str, str]]:
    """Name, default as JSON, and meaning of each switch, for help texts and tables."""
    defaults = Switches().model_dump(mode="json")
    return [
        (name, json.dumps(defaults[name]), " ".join((field.description or "").split()))
        for name, field in Switches.model_fields.items()
    ]


class Panel:
    """Holds the switches of a running sandbox; its parts read them here at each use."""

    def __init__(self, switches: Switches) -> None:
        self.switches = switches

    def change(self, values: dict[str, Any]) -> Switches:
        """Replaces the switches named, keeps the others, and returns all of them."""
        self.switches = parse(Switches, {**self.switches.model_dump(), **values})
        return self.switches
