"""All switches of the sandbox: one for each thing that the contracts leave open."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from receiver.sandbox.clock import SandboxClock
from receiver.sandbox.parallel.switches import ParallelSwitches
from receiver.sandbox.parallel_v0.switches import V0Switches
from receiver.sandbox.switches_common import (
    CommonSwitches,
    Fault,
    Forgery,
    SandboxError,
    first_fault,
    parse,
)

__all__ = [
    "Fault",
    "Forgery",
    "Panel",
    "SandboxError",
    "SwitchHelp",
    "Switches",
    "assignments",
    "described",
    "first_fault",
    "parse",
]


class Switches(V0Switches, ParallelSwitches, CommonSwitches):
    """Behaviour of this sandbox; PUT /_sandbox/switches replaces some while it runs."""

    # The fields of the last base come first: the help begins with what all senders share.


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Read switches written as `name=value`, where the value is JSON or else plain text."""
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


class SwitchHelp(NamedTuple):
    """One switch as a help text shows it; the default is JSON."""

    name: str
    default: str
    meaning: str


def described() -> list[SwitchHelp]:
    """Return the help of every switch."""
    defaults = Switches().model_dump(mode="json")
    return [
        SwitchHelp(name, json.dumps(defaults[name]), " ".join((field.description or "").split()))
        for name, field in Switches.model_fields.items()
    ]


class Panel:
    """Switches and clock of a running sandbox; its parts read them here at each use."""

    def __init__(self, switches: Switches, clock: SandboxClock | None = None) -> None:
        self.switches = switches
        self.clock = clock or SandboxClock()

    def change(self, values: dict[str, Any]) -> None:
        """Replace the switches named and keep the others; raises SandboxError."""
        self.switches = parse(Switches, {**self.switches.model_dump(), **values})

    def signing_time(self) -> float:
        """Return the seconds since 1970 by the sender's clock, which may be wrong."""
        return self.clock.time() + self.switches.clock_skew
