"""Batches and tasks as the sender keeps them; `research` alone changes them."""

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from receiver.sandbox.valyu.requests import CreateBatch, CreateTask

TaskStatus = Literal[
    "queued", "running", "awaiting_input", "paused", "completed", "failed", "cancelled"
]
BatchStatus = Literal["open", "processing", "completed", "completed_with_errors", "cancelled"]

TASK_STATUSES: tuple[TaskStatus, ...] = ("queued", "running", "completed", "failed", "cancelled")
DONE = frozenset({"completed", "failed", "cancelled"})


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


@dataclass(eq=False, slots=True)
class Batch:
    """A batch as the sender keeps it; `counts` is kept by `Research`, never by others."""

    request: CreateBatch
    secret: str | None
    origin: str
    batch_id: str = field(default_factory=lambda: f"batch_{uuid.uuid4()}")
    status: BatchStatus = "open"
    tasks: list["Task"] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    created_at: datetime = field(default_factory=now)
    completed_at: datetime | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def webhook_url(self) -> str | None:
        return self.request.webhook_url


@dataclass(eq=False, slots=True)
class Task:
    """A task, alone or of a batch; `settings` are its own, or those of its batch."""

    query: str
    settings: CreateTask | CreateBatch
    metadata: dict[str, Any] | None
    origin: str
    secret: str | None = None
    batch: Batch | None = None
    task_id: str | None = None
    deepresearch_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: TaskStatus = "queued"
    will_fail: bool = False
    public: bool = False
    created_at: datetime = field(default_factory=now)
    ended_at: datetime | None = None
    timer: asyncio.TimerHandle | None = None
    checkpoints: list[str] = field(default_factory=list)
    interaction: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def webhook_url(self) -> str | None:
        return self.settings.webhook_url
