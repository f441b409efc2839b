"""Parallel's Task API (v1): task runs and task groups, announced run by run.

The fact sheet of this project's contracts says how it behaves; `reading` reads its answers. A
webhook's body is thin, and the result call gives the output. A finished group has no webhook. One
secret signs for the whole account. A 404 of the result call means failed or unknown, and the call
for the run itself tells which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from receiver.errors import Unavailable
from receiver.json_values import strictly, word
from receiver.providers import responses
from receiver.providers.capabilities.batches import AddsToBatches, StreamsRuns, take_task_id
from receiver.providers.capabilities.runs import EmbedsResults
from receiver.providers.model import (
    Announcement,
    Answer,
    Callback,
    Created,
    NewTask,
    Plan,
    Request,
    StreamItem,
    Subject,
)
from receiver.providers.parallel import reading
from receiver.providers.parallel.limits import MAX_VALUE, check_input, checked
from receiver.providers.parallel.tasks import (
    MARK,
    PROCESSORS,
    ParallelRuns,
    mark_of,
    task_spec,
    with_mark,
    with_webhook,
)
from receiver.providers.responses import part
from receiver.signatures.schemes import STANDARD_WEBHOOKS
from storage import FetchedBatch, FetchedRun

IDENTITY = frozenset({"type", "data", "run_id", "taskgroup_id", "task_group_id", "status"})
OWN_COLUMNS = frozenset({"id", "task_id", "input", "processor", "metadata"})
TASK_ID = "task_id"
"""The key of a run's metadata under which the user's own id travels."""


@dataclass(frozen=True)
class Parallel(ParallelRuns, EmbedsResults, StreamsRuns, AddsToBatches):
    """The provider `parallel`. result_seconds: how long the result call may wait for a run."""

    result_seconds: int = 5

    name = "parallel"
    scheme = STANDARD_WEBHOOKS
    base_url = "https://api.parallel.ai"
    kinds = frozenset({"batch", "run"})
    announced_at = "account"
    gathers = True
    stream_format = "events"
    resumes = True
    statuses = reading.STATUSES
    grows = True
    tasks_per_call = 1_000
    columns = OWN_COLUMNS

    def __post_init__(self) -> None:
        if not isinstance(self.result_seconds, int) or not 1 <= self.result_seconds <= 600:
            raise ValueError("result_seconds must be a whole number from 1 to 600")

    # --- webhooks ------------------------------------------------------------------------------

    def identify(self, body: bytes) -> Announcement | None:
        parsed = strictly(body, IDENTITY)
        return None if parsed is None else reading.announced(parsed)

    def read_embedded(self, body: bytes, run_id: str) -> FetchedRun | None:
        """Return a failed run alone: a body has its whole error, but never an output."""
        parsed = strictly(body, IDENTITY)
        data = parsed.get("data") if parsed else None
        run = reading.run(data) if isinstance(data, dict) else None
        return run if run is not None and run.run_id == run_id and run.is_result else None

    def probe(self) -> Request:
        """Ask for a run that nobody has, which is a 404 for every account that is not refused."""
        return Request("GET", f"/v1/tasks/runs/trun_{0:032x}")

    # --- creating batches ----------------------------------------------------------------------

    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """Make a task of a row: its column `input` and metadata, or all columns as the input."""
        given = {key: value for key, value in row.items() if value not in (None, "")}
        task_id = take_task_id(given)
        body: dict[str, Any] = {}
        if (processor := given.pop("processor", None)) is not None:
            body["processor"] = str(processor)
        metadata = given.pop("metadata", {})
        if not isinstance(metadata, dict):
            raise ValueError("`metadata` must be a JSON object")
        if "input" in given:
            body["input"] = given.pop("input")
            metadata = {**metadata, **given}
        else:
            body["input"] = given
        if task_id is not None:
            metadata = {**metadata, TASK_ID: task_id}
        check_input(body["input"])
        if metadata:
            body["metadata"] = checked(metadata)
        whole = reading.as_input(body["input"]) or {}
        return NewTask(task_id, body, whole)

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        if plan.prompt is not None or plan.task_id is not None:
            raise ValueError("Parallel's v1 API has no stored tasks: leave --task and --prompt out")
        if plan.runner is None and any("processor" not in task.body for task in tasks):
            raise ValueError(f"the processor is missing: give --processor {PROCESSORS}")
        if plan.name is not None and len(plan.name) > MAX_VALUE:
            raise ValueError(f"the name has more than {MAX_VALUE} characters")

    def create_batch(self, plan: Plan, *, webhook_url: str | None) -> Request:
        body = {} if plan.name is None else {"metadata": {"name": plan.name}}
        return Request("POST", "/v1/tasks/groups", json=body)

    def read_created(self, data: object) -> Created:
        group = word(data.get("taskgroup_id")) if isinstance(data, dict) else None
        if group is None:
            raise Unavailable("the answer to the create call names no task group")
        return Created(group)

    def defaults(self, plan: Plan, tasks: Sequence[NewTask]) -> Mapping[str, object]:
        return {"processor": plan.runner, "schema": plan.schema}

    def add_tasks(
        self,
        batch: Subject,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callback: Callback | None,
    ) -> Request:
        body: dict[str, Any] = {
            "inputs": [
                with_webhook({"processor": defaults.get("processor"), **task.body}, callback)
                for task in tasks
            ]
        }
        if defaults.get("schema") is not None:
            body["default_task_spec"] = task_spec(defaults["schema"])
        path = f"/v1/tasks/groups/{part(batch.id)}/runs"
        return Request("POST", path, {"refresh_status": "false"}, json=body)

    def marked(self, task: NewTask, mark: str) -> NewTask:
        return replace(task, body=with_mark(task.body, mark))

    def key_of(self, task: NewTask) -> str:
        return str((task.body.get("metadata") or {}).get(MARK))

    def key_of_run(self, run: FetchedRun) -> str | None:
        return mark_of(run)

    def read_added(self, data: object) -> Sequence[FetchedRun]:
        listed = data.get("run_ids") if isinstance(data, dict) else None
        ids = [word(found) for found in listed] if isinstance(listed, list) else []
        return [FetchedRun(found, "queued", "queued", {}) for found in ids if found is not None]

    # --- reading -------------------------------------------------------------------------------

    def batch(self, batch: Subject) -> Request:
        return Request("GET", f"/v1/tasks/groups/{part(batch.id)}")

    def read_batch(self, data: object, batch: Subject) -> FetchedBatch:
        if not isinstance(data, dict) or data.get("taskgroup_id") != batch.id:
            raise Unavailable(f"the answer is not about {batch.id}")
        return reading.group(data)

    def stream_runs(self, batch: Subject, *, cursor: str | None) -> Request:
        params = {"include_input": "true", "include_output": "true"}
        if cursor is not None:
            params["last_event_id"] = cursor
        return Request("GET", f"/v1/tasks/groups/{part(batch.id)}/runs", params)

    def read_streamed(
        self, item: object, batch: FetchedBatch, *, defaults: Mapping[str, Any]
    ) -> StreamItem:
        """Read one event; those without a run move the cursor alone."""
        if not isinstance(item, dict):
            return StreamItem(None)
        if item.get("type") == "error":
            words = responses.described(Answer(200, {}, item))
            raise Unavailable(f"the stream of {batch.batch_id} ended with an error: {words}")
        cursor = word(item.get("event_id"))
        if not isinstance(item.get("run"), dict):
            return StreamItem(None, cursor)
        run = reading.run(item["run"], given=item.get("input"), output=item.get("output"))
        if run is None or run.batch_id not in (None, batch.batch_id):
            return StreamItem(None, cursor)
        return StreamItem(reading.in_group(run, batch), cursor)

    def run(self, run: Subject) -> Sequence[Request]:
        """Return the calls for a run: first, where it may have completed, for its result."""
        path = f"/v1/tasks/runs/{part(run.id)}"
        itself = Request("GET", path)
        if run.status not in (None, "completed"):
            return [itself]
        timeout = {"timeout": str(self.result_seconds)}
        return [Request("GET", f"{path}/result", timeout, waits=True), itself]

    def read_run(self, data: object, run: Subject) -> FetchedRun:
        """Read a run, which the result call wraps and the other does not; raises Unavailable."""
        found = None
        if isinstance(data, dict) and isinstance(data.get("run"), dict):
            found = reading.run(data["run"], output=data.get("output"))
        elif isinstance(data, dict):
            found = reading.run(data)
        if found is None or found.run_id != run.id:
            raise Unavailable(f"the answer is not about {run.id}")
        return found
