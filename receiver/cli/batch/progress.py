"""The progress of batches that are waited for: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from receiver.cli.output import errors, in_one_line, progress_bar, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from storage import Ledger

CHANGED_SECONDS = 5.0
"""A line for a batch whose numbers have changed is printed no more often than this."""

QUIET_SECONDS = 60.0
"""A line is printed at least so often, although nothing has changed."""


def label(batch: Ledger) -> str:
    """Return the name of a batch, or its id where it has none."""
    return in_one_line(batch.name or batch.batch_id)


@contextmanager
def shown(batches: Sequence[Ledger]) -> Iterator[Bars | Lines]:
    """Show the progress until the end of the block."""
    if not errors().is_terminal:
        yield Lines(batches)
        return
    with progress_bar() as progress:
        yield Bars(batches, progress)


class Bars:
    """A bar for each batch."""

    def __init__(self, batches: Sequence[Ledger], progress: Progress) -> None:
        texts = [label(batch) for batch in batches] if len(batches) > 1 else ["results stored"]
        self._progress = progress
        self._bars: list[TaskID] = [progress.add_task(text, total=None) for text in texts]

    def update(self, batches: Sequence[Ledger]) -> None:
        """Move the bars to what is stored now."""
        for bar, batch in zip(self._bars, batches, strict=True):
            self._progress.update(bar, completed=batch.stored, total=batch.expected or None)

    def tick(self) -> None:
        """Do nothing: bars move by themselves."""


class Lines:
    """A line for a batch when its numbers have changed, and at least every minute."""

    def __init__(
        self, batches: Sequence[Ledger], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._batches = batches
        self._last = [(_line(batch), clock()) for batch in batches]

    def update(self, batches: Sequence[Ledger]) -> None:
        """Note what is stored now; `tick` prints it."""
        self._batches = batches

    def tick(self) -> None:
        """Print the lines that are due."""
        for place, batch in enumerate(self._batches):
            last, printed_at = self._last[place]
            line, age = _line(batch), self._clock() - printed_at
            is_quiet = age >= QUIET_SECONDS and batch.state != "complete"
            if is_quiet or (line != last and age >= CHANGED_SECONDS):
                say(line if len(self._batches) == 1 else f"{label(batch)}: {line}")
                self._last[place] = line, self._clock()


def _line(batch: Ledger) -> str:
    line = f"{batch.stored} of {batch.expected} stored, {batch.failed} failed"
    if batch.sender_status is None:
        return line
    return f"{line}; the sender says {in_one_line(batch.sender_status)}"
