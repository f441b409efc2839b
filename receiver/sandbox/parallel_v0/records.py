"""Tasks, batches and runs as the v0 API keeps them; `v0_runs` alone changes them."""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from receiver.sandbox.parallel_v0.requests import Arguments, Callback, CreateTask
from receiver.sandbox.valyu.records import now

RunStatus = Literal[
    "queued", "running", "awaiting_tool_calls", "failed", "complete", "cancelling", "cancelled"
]

DONE = frozenset({"complete", "failed", "cancelled"})


def new_id() -> str:
    """An id in the form that all ids of v0 have."""
    return str(uuid.uuid4())


@dataclass(eq=False, slots=True)
class Task:
    """A stored prompt with its schemas: what runs are runs of."""

    request: CreateTask
    task_id: str = field(default_factory=new_id)


@dataclass(eq=False, slots=True)
class Batch:
    """Many runs of one task, in the order they were asked for; it has no state of its own."""

    task: Task
    runs: list["Run"] = field(default_factory=list)
    batch_run_id: str = field(default_factory=new_id)
    created_at: datetime = field(default_factory=now)


@dataclass(eq=False, slots=True)
class Run:
    """One execution of a task; `text` is its prompt with the arguments filled in."""

    task: Task
    runner: str
    arguments: Arguments
    text: str
    callback: Callback | None = None
    batch: Batch | None = None
    will_fail: bool = False
    run_id: str = field(default_factory=new_id)
    status: RunStatus = "queued"
    output: dict[str, Any] | None = None
    error: str | None = None
    timer: asyncio.TimerHandle | None = None
    ended: asyncio.Event | None = None
    """Set at the end, if somebody waits for it."""
