"""Tasks, batches and runs as v0 keeps them; only `state` changes them."""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from receiver.sandbox.clock import PlannedCall
from receiver.sandbox.parallel_v0.requests import Arguments, CreateV0Task, V0Callback

V0RunStatus = Literal[
    "queued", "running", "awaiting_tool_calls", "failed", "complete", "cancelling", "cancelled"
]

DONE = frozenset({"complete", "failed", "cancelled"})


def new_id() -> str:
    """Return a new id; all ids of v0 have this form."""
    return str(uuid.uuid4())


@dataclass(eq=False, slots=True)
class V0Task:
    """A stored prompt with its schemas, of which runs can be made."""

    request: CreateV0Task
    task_id: str = field(default_factory=new_id)


@dataclass(eq=False, slots=True)
class V0Batch:
    """Runs of one task, in the order of the request; a batch has no status of its own."""

    task: V0Task
    created_at: datetime
    runs: list["V0Run"] = field(default_factory=list)
    batch_run_id: str = field(default_factory=new_id)


@dataclass(eq=False, slots=True)
class V0Run:
    """One execution of a task; `text` is the prompt with its arguments."""

    task: V0Task
    runner: str
    arguments: Arguments
    text: str
    callback: V0Callback | None = None
    batch: V0Batch | None = None
    will_fail: bool = False
    run_id: str = field(default_factory=new_id)
    status: V0RunStatus = "queued"
    output: dict[str, Any] | None = None
    error: str | None = None
    timer: PlannedCall | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
