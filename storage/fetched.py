"""Runs and batches as a provider has read them from the sender's API."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TERMINAL = frozenset({"completed", "failed", "cancelled"})
"""The statuses of a run after which nothing more comes."""

UNTYPED = "csv"
"""The `output_type` of an output whose values all came as text: any other is better."""


@dataclass(frozen=True, slots=True)
class FetchedRun:
    """One run as the sender's API showed it. `status` is ours: queued, running, or TERMINAL.

    `has_output` is False where a call that should carry the output of a completed run did not:
    such a run is known, but not stored as a result. Neither is one with `is_whole` False, where a
    call showed the end but not what belongs to it, such as the error of a failed run.
    `is_input_whole` means that `input` is all that was submitted, not an echo of a part of it.
    `waits_for` is the sender's question to a person while the run awaits an answer, else None.
    """

    run_id: str
    status: str
    sender_status: str
    raw: dict[str, Any]
    batch_id: str | None = None
    task_id: str | None = None
    runner: str | None = None
    input: dict[str, Any] | None = None
    output: Any = None
    output_type: str | None = None
    sources: Any = None
    error: str | None = None
    cost: float | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    has_output: bool = True
    is_whole: bool = True
    is_input_whole: bool = False
    waits_for: dict[str, Any] | None = None

    @property
    def is_result(self) -> bool:
        """True where this can be stored as a result: it has ended, and its end is complete."""
        has_ended = self.status in TERMINAL and self.is_whole
        return has_ended and (self.has_output or self.status != "completed")


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """A batch as the sender's API showed it. `counts` are runs by status.

    `total` and `ended` (the numbers of all and of ended runs) are None where the sender does not
    give them; `runs` are the single runs that the same call showed.
    """

    batch_id: str
    sender_status: str
    is_terminal: bool
    total: int | None = None
    ended: int | None = None
    name: str | None = None
    runner: str | None = None
    webhook_url: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    created_at: datetime | None = None
    runs: tuple[FetchedRun, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmittedRun:
    """A run that the sender accepted from us, with its input, which the sender may not give back.

    `endpoint_id` is the endpoint of its own, where it has one.
    """

    run_id: str
    task_id: str | None
    input: dict[str, Any] | None
    endpoint_id: str | None = None
