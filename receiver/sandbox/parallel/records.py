"""Runs and groups as Parallel keeps them; only `state` changes them."""

import asyncio
import secrets
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from receiver.sandbox.clock import PlannedCall
from receiver.sandbox.parallel.requests import CreateParallelRun, Metadata, RunStatus, TaskSpec

ACTIVE = frozenset({"queued", "running", "cancelling"})


@dataclass(eq=False, slots=True)
class ParallelRun:
    """One run.

    `sent` is its request unchanged; `spec` is the task spec of the run or else of the request.
    `late` says that streams show the run without its output.
    """

    request: CreateParallelRun
    sent: dict[str, Any]
    spec: TaskSpec | None
    created_at: datetime
    group: "ParallelGroup | None" = None
    run_id: str = field(default_factory=lambda: f"trun_{uuid.uuid4().hex}")
    status: RunStatus = "queued"
    will_fail: bool = False
    late: bool = False
    modified_at: datetime = field(init=False)
    timer: PlannedCall | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.modified_at = self.created_at

    @property
    def is_active(self) -> bool:
        """True until the run has ended."""
        return self.status in ACTIVE


@dataclass(frozen=True, slots=True)
class ShownStatus:
    """A status of a group as an answer showed it, and the clock's seconds of that answer."""

    at: float
    status: dict[str, Any]


@dataclass(eq=False, slots=True)
class ParallelGroup:
    """A group: `runs` in the order in which they were added, `ended` in the order of their ends.

    The event id of a run that has ended is its place in `ended`, counted from 1.
    """

    metadata: Metadata | None
    created_at: datetime
    group_id: str = field(default_factory=lambda: f"tgrp_{secrets.token_hex(24)}")
    runs: list[ParallelRun] = field(default_factory=list)
    ended: list[ParallelRun] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    modified_at: datetime = field(init=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    last_shown: ShownStatus | None = None

    def __post_init__(self) -> None:
        self.modified_at = self.created_at

    @property
    def is_active(self) -> bool:
        """True while a run of the group is active."""
        return any(self.counts[status] for status in ACTIVE)
