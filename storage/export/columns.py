"""The columns of a CSV export: found in the data, named so that no two are equal."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FIXED = ("task_id", "batch_run_id", "run_id", "status", "runner")
DETAILS = ("source", "error", "cost", "version", "created_at", "completed_at", "fetched_at")
"""Columns that follow FIXED where they are asked for."""


@dataclass
class Columns:
    """The keys of all inputs and of all outputs, in first-seen order, after `fixed` columns."""

    fixed: tuple[str, ...] = FIXED
    inputs: dict[str, None] = field(default_factory=dict)
    outputs: dict[str, None] = field(default_factory=dict)

    def has(self, given: Mapping[str, Any], output: Mapping[str, Any]) -> bool:
        """Return True where every key of an input and of an output has a column."""
        return given.keys() <= self.inputs.keys() and output.keys() <= self.outputs.keys()

    def add(self, given: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Append the keys that are new."""
        self.inputs.update(dict.fromkeys(given))
        self.outputs.update(dict.fromkeys(output))

    def names(self, guard: Callable[[str], str]) -> tuple[str, ...]:
        """Name every column: the fixed, then the inputs, then the outputs; each name is unique.

        A key stays as it is (after `guard`) unless another column has that name too. Then each of
        the keys in question is written `input.KEY` or `output.KEY`; the fixed columns never change.
        A key that looks like such a name (`output.score` in an input) gives way in the same way.
        The outcome depends on the set of keys alone, not on their order.
        """
        keys = [("input", key) for key in self.inputs] + [("output", key) for key in self.outputs]
        names = [guard(key) for _, key in keys]
        # Ends: each round prefixes at least one more key, and prefixed names differ among
        # themselves and from the fixed ones, which have no dots.
        while clashes := _repeated([*self.fixed, *names]):
            for place, (part, key) in enumerate(keys):
                if names[place] in clashes:
                    names[place] = f"{part}.{key}"
        return (*self.fixed, *names)


def _repeated(names: list[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}
