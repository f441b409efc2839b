"""Parallel's older batch API (v0): stored tasks, and batches whose runs call back one by one.

It has no SDK, no OpenAPI, and much that no page says (see the fact sheet of this project's
contracts). Addresses of batches and runs name the stored task. One call makes all runs of a batch,
each with a callback of its own. The only documented check of a callback are headers that we choose:
its body may be unsigned, and is a hint alone.
"""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from receiver.errors import Refused, Unavailable
from receiver.json_values import strictly, word
from receiver.providers.capabilities.batches import CallsBackPerRun, StreamsRuns
from receiver.providers.model import (
    Announcement,
    Callback,
    NewTask,
    Plan,
    Request,
    StreamFormat,
    StreamItem,
    Subject,
)
from receiver.providers.parallel_v0 import reading
from receiver.providers.responses import part
from receiver.signatures.schemes import BEARER, bearer_token
from storage import UNTYPED, FetchedBatch, FetchedRun

IDENTITY = frozenset({"run_id", "batch_run_id", "status"})
PROCESSOR = "neon"


@dataclass(frozen=True)
class ParallelV0(StreamsRuns, CallsBackPerRun):
    """The provider `parallel-v0`.

    run_path: the path of a single run, which no copy of the guide shows. export: the format in
    which a whole batch is fetched.
    """

    run_path: str = "/v0/tasks/{task_id}/runs/{run_id}"
    export: Literal["json", "csv"] = "json"

    name = "parallel-v0"
    scheme = BEARER
    base_url = "https://api.parallel.ai"
    kinds = frozenset({"batch", "run"})
    announced_at = "endpoint"
    gathers = True
    below_tasks = True
    statuses = reading.STATUSES
    columns = frozenset({"runner"})

    def __post_init__(self) -> None:
        if self.export not in ("json", "csv"):
            raise ValueError("export must be json or csv")
        fields = [name for _, name, _, _ in string.Formatter().parse(self.run_path) if name]
        if sorted(fields) != ["run_id", "task_id"] or not self.run_path.startswith("/"):
            raise ValueError("run_path must be a path with {task_id} and {run_id} in it")

    @property
    def stream_format(self) -> StreamFormat:
        return "documents" if self.export == "json" else "rows"

    # --- webhooks ------------------------------------------------------------------------------

    def identify(self, body: bytes) -> Announcement | None:
        parsed = strictly(body, IDENTITY)
        return None if parsed is None else reading.announced(parsed)

    # --- creating batches ----------------------------------------------------------------------

    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """Make a task of a row: each column but `runner` is an argument of the prompt."""
        given = {key: value for key, value in row.items() if value not in (None, "")}
        runner = given.pop("runner", None)
        if not given:
            raise ValueError("it has no arguments: write a column for each that the prompt names")
        body: dict[str, Any] = {"arguments": given}
        if runner is not None:
            body["runner"] = str(runner)
        return NewTask(None, body, given)

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        if (plan.task_id is None) == (plan.prompt is None):
            raise ValueError("name the stored task with --task, or give the --prompt of a new one")
        if plan.runner is None and any("runner" not in task.body for task in tasks):
            raise ValueError("the runner is missing: give --runner, such as neon or argon")
        if plan.task_id is not None and plan.schema is not None:
            raise ValueError("the stored task has its own output schema: leave --output-schema out")
        for name in re.findall(r"\$\{([^}]+)\}", plan.prompt or ""):
            if name not in _arguments(tasks):
                raise ValueError(f"the prompt names {name!r}, which is no column of the tasks")

    def create_stored_task(self, plan: Plan, tasks: Sequence[NewTask]) -> Request:
        """Create a stored task whose input schema names the arguments of the tasks."""
        names = _arguments(tasks)
        body = {
            "name": plan.name or "resultsink",
            "prompt": plan.prompt,
            "input_schema": {
                "type": "object",
                "properties": {name: {"type": _type(tasks, name)} for name in names},
                "required": [name for name in names if _is_everywhere(tasks, name)],
            },
            "output_schema": plan.schema or _TEXT,
            "processor": plan.runner or PROCESSOR,
        }
        return Request("POST", "/v0/tasks", json=body)

    def read_stored_task(self, data: object) -> str:
        task_id = word(data.get("task_id")) if isinstance(data, dict) else None
        if task_id is None:
            raise Unavailable("the answer to the create call names no stored task")
        return task_id

    def defaults(self, plan: Plan, tasks: Sequence[NewTask]) -> Mapping[str, object]:
        """Return the runner and the arguments, whose columns the CSV export does not mark."""
        return {"runner": plan.runner, "arguments": _arguments(tasks)}

    def submit_batch(
        self,
        task_id: str,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callbacks: Sequence[Callback],
    ) -> Request:
        requests = [
            {**task.body, **_callback(callback)}
            for task, callback in zip(tasks, callbacks, strict=True)
        ]
        body = {"task_run_requests": requests, "runner": defaults.get("runner")}
        if body["runner"] is None:
            del body["runner"]
        return Request("POST", f"/v0/tasks/{part(task_id)}/batches", json=body)

    def read_submitted(self, data: object) -> str:
        batch_id = word(data.get("batch_run_id")) if isinstance(data, dict) else None
        if batch_id is None:
            raise Unavailable("the answer to the create call names no batch")
        return batch_id

    def read_added(self, data: object) -> Sequence[FetchedRun]:
        listed = data.get("run_ids") if isinstance(data, dict) else None
        ids = [word(found) for found in listed] if isinstance(listed, list) else []
        return [FetchedRun(found, "queued", "queued", {}) for found in ids if found is not None]

    # --- reading -------------------------------------------------------------------------------

    def batch(self, batch: Subject) -> Request:
        return Request("GET", f"/v0/tasks/{_task(batch)}/batches/{part(batch.id)}")

    def read_batch(self, data: object, batch: Subject) -> FetchedBatch:
        """Read the status of each run; the answer names no batch. Raises Unavailable."""
        status_map = data.get("status_map") if isinstance(data, dict) else None
        if not isinstance(status_map, dict):
            raise Unavailable(f"the answer about {batch.id} has no status_map")
        return reading.batch(status_map, batch)

    def stream_runs(self, batch: Subject, *, cursor: str | None) -> Request:
        path = f"/v0/tasks/{_task(batch)}/batches/{part(batch.id)}/export"
        return Request("GET", path, {"format": self.export})

    def read_streamed(
        self, item: Any, batch: FetchedBatch, *, defaults: Mapping[str, Any]
    ) -> StreamItem:
        """Read a run object, or the header and the cells of a CSV row."""
        data = item
        if self.export == "csv":
            header, cells = item
            data = reading.from_row(header, cells, names=defaults.get("arguments") or ())
        run = reading.run(data) if isinstance(data, dict) else None
        if run is None or run.batch_id not in (None, batch.batch_id):
            return StreamItem(None)
        return StreamItem(_as_in_csv(run, defaults) if self.export == "csv" else run)

    def run(self, run: Subject) -> Sequence[Request]:
        path = self.run_path.format(task_id=_task(run), run_id=part(run.id))
        return [Request("GET", path)]

    def read_run(self, data: object, run: Subject) -> FetchedRun:
        found = reading.run(data) if isinstance(data, dict) else None
        if found is None or found.run_id != run.id:
            raise Unavailable(f"the answer is not about {run.id}")
        return found


def _as_in_csv(run: FetchedRun, defaults: Mapping[str, Any]) -> FetchedRun:
    """Mark a run of the CSV export, which has no types, no errors, and columns of two kinds.

    Without the names of the arguments, no column is known to be an output.
    """
    return replace(
        run,
        output_type=UNTYPED,
        has_output=run.has_output and "arguments" in defaults,
        is_whole=run.status == "completed",
        is_input_whole=False,
    )


_TEXT = {"type": "object", "properties": {"output": {"type": "string"}}, "required": ["output"]}


def _callback(callback: Callback) -> dict[str, object]:
    """Return the field for a callback, with inferred names.

    The guide says only "the URL", "the headers" and "Secret".
    """
    token = bearer_token(callback.secret)
    headers = {"Authorization": f"Bearer {token}"}
    return {
        "callback_webhook": {"url": callback.url, "secret": callback.secret, "headers": headers}
    }


def _task(subject: Subject) -> str:
    if subject.task_id is None:
        raise Refused(
            f"it is not known of which stored task {subject.kind} {subject.id} is: "
            "name it with `endpoint add --task`"
        )
    return part(subject.task_id)


def _arguments(tasks: Sequence[NewTask]) -> list[str]:
    return list(dict.fromkeys(name for task in tasks for name in task.input))


def _is_everywhere(tasks: Sequence[NewTask], name: str) -> bool:
    return all(name in task.input for task in tasks)


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}


def _type(tasks: Sequence[NewTask], name: str) -> str:
    """Return the JSON type of an argument: string where the tasks do not agree."""
    types = {type(task.input[name]) for task in tasks if name in task.input}
    return _TYPES.get(types.pop(), "array") if len(types) == 1 else "string"
