"""Batches and tasks as Valyu keeps them; only `state` changes them."""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from receiver.sandbox.clock import PlannedCall
from receiver.sandbox.valyu.requests import CreateValyuBatch, CreateValyuTask

TaskStatus = Literal[
    "queued", "running", "awaiting_input", "paused", "completed", "failed", "cancelled"
]
BatchStatus = Literal["open", "processing", "completed", "completed_with_errors", "cancelled"]

TASK_STATUSES: tuple[TaskStatus, ...] = ("queued", "running", "completed", "failed", "cancelled")
DONE = frozenset({"completed", "failed", "cancelled"})


@dataclass(eq=False, slots=True)
class ValyuBatch:
    """A batch; only `Research` changes its `counts`."""

    request: CreateValyuBatch
    secret: str | None
    origin: str
    created_at: datetime
    batch_id: str = field(default_factory=lambda: f"batch_{uuid.uuid4()}")
    status: BatchStatus = "open"
    tasks: list["ValyuTask"] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    completed_at: datetime | None = None
    timer: PlannedCall | None = None

    @property
    def webhook_url(self) -> str | None:
        return self.request.webhook_url


@dataclass(eq=False, slots=True)
class ValyuTask:
    """A task, alone or in a batch; `settings` are its own, or those of its batch."""

    query: str
    settings: CreateValyuTask | CreateValyuBatch
    metadata: dict[str, Any] | None
    origin: str
    created_at: datetime
    secret: str | None = None
    batch: ValyuBatch | None = None
    task_id: str | None = None
    deepresearch_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: TaskStatus = "queued"
    will_fail: bool = False
    public: bool = False
    ended_at: datetime | None = None
    timer: PlannedCall | None = None
    checkpoints: list[str] = field(default_factory=list)
    interaction: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def webhook_url(self) -> str | None:
        return self.settings.webhook_url
