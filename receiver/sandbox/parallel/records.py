"""Runs and groups as Parallel keeps them; `parallel_runs` alone changes them."""

import asyncio
import secrets
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from receiver.sandbox.parallel.requests import CreateRun, Metadata, RunStatus, TaskSpec
from receiver.sandbox.valyu.records import now

ACTIVE = frozenset({"queued", "running", "cancelling"})


@dataclass(eq=False, slots=True)
class Run:
    """One run; `sent` is its request as it came, `spec` its own or else that of the request."""

    request: CreateRun
    sent: dict[str, Any]
    spec: TaskSpec | None
    group: "Group | None" = None
    run_id: str = field(default_factory=lambda: f"trun_{uuid.uuid4().hex}")
    status: RunStatus = "queued"
    will_fail: bool = False
    late: bool = False
    created_at: datetime = field(default_factory=now)
    modified_at: datetime = field(init=False)
    timer: asyncio.TimerHandle | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.modified_at = self.created_at

    @property
    def is_active(self) -> bool:
        """Whether the run still goes."""
        return self.status in ACTIVE


@dataclass(eq=False, slots=True)
class Group:
    """A group: its runs as they were added, and `ended`, as they came to their ends.

    The event id of a run that has ended is its place in `ended`, counted from 1. `shown` is the
    status that was answered last, and when.
    """

    metadata: Metadata | None
    group_id: str = field(default_factory=lambda: f"tgrp_{secrets.token_hex(24)}")
    runs: list[Run] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    created_at: datetime = field(default_factory=now)
    modified_at: datetime = field(init=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    shown: tuple[float, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.modified_at = self.created_at

    @property
    def is_active(self) -> bool:
        """Whether a run of it still goes; without runs it is not active."""
        return any(self.counts[status] for status in ACTIVE)
