"""Parallel's Task API (v1): task runs and task groups, announced run by run.

What it does stands in the fact sheet of this project's contracts; `parallel_reading` reads its
answers. Honoured here: a webhook's body is thin, the result call gives the output; there is no
webhook for a finished group; one secret signs for the whole account; a 404 of the result call
means failed or unknown, and the run itself tells which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.errors import Unavailable
from receiver.json_values import strictly, word
from receiver.providers import responses
from receiver.providers.base import Provider
from receiver.providers.model import (
    Announcement,
    Answer,
    Callback,
    Created,
    Listing,
    NewRun,
    NewTask,
    Plan,
    Request,
    Streamed,
    Subject,
)
from receiver.providers.parallel import reading
from receiver.providers.responses import part
from receiver.signatures.schemes import STANDARD_WEBHOOKS
from storage import FetchedBatch, FetchedRun

IDENTITY = frozenset({"type", "data", "run_id", "taskgroup_id", "task_group_id", "status"})
RUN_EVENT = "task_run.status"
OWN_COLUMNS = frozenset({"id", "task_id", "input", "processor", "metadata"})
MAX_INPUT = 25_000
MAX_KEY, MAX_VALUE = 16, 512
TASK_ID = "task_id"
"""The key of a run's metadata under which the user's own id travels."""

RUN_OPTIONS = frozenset({"input", "runner", "output_schema", "metadata", "set"})
PROCESSORS = "lite, base, core, pro or ultra"


@dataclass(frozen=True)
class Parallel(Provider):
    """The provider `parallel`. result_seconds: how long the result call may wait for a run."""

    result_seconds: int = 5

    name = "parallel"
    scheme = STANDARD_WEBHOOKS
    base_url = "https://api.parallel.ai"
    kinds = frozenset({"batch", "run"})
    announced_at = "account"
    gathers = True
    resumes = True
    statuses = reading.STATUSES
    grows = True
    tasks_per_call = 1_000
    columns = OWN_COLUMNS

    def __post_init__(self) -> None:
        if not isinstance(self.result_seconds, int) or not 1 <= self.result_seconds <= 600:
            raise ValueError("result_seconds must be a whole number from 1 to 600")

    @property
    def listing(self) -> Listing:
        """See Provider."""
        return "events"

    # --- webhooks ------------------------------------------------------------------------------

    def identify(self, body: bytes) -> Announcement | None:
        """See Provider. What is neither a run's event nor looks like one is named by its type."""
        parsed = strictly(body, IDENTITY)
        return None if parsed is None else reading.announced(parsed)

    def read_carried(self, body: bytes, run_id: str) -> FetchedRun | None:
        """See Provider. A body carries no output, so only a failed run's story is whole in it."""
        parsed = strictly(body, IDENTITY)
        data = parsed.get("data") if parsed else None
        run = reading.run(data) if isinstance(data, dict) else None
        return run if run is not None and run.run_id == run_id and run.is_result else None

    # --- every call ----------------------------------------------------------------------------

    def judge(self, answer: Answer, *, now: float) -> None:
        """See Provider."""
        responses.judge(answer, now=now)

    def probe(self) -> Request:
        """See Provider. A run that nobody has: who may ask is told that there is none."""
        return Request("GET", f"/v1/tasks/runs/trun_{0:032x}")

    # --- creating ------------------------------------------------------------------------------

    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """See Provider. With a column `input` the others are metadata; else they are the input."""
        given = {key: value for key, value in row.items() if value not in (None, "")}
        task_id = given.pop("id", given.pop("task_id", None))
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
            metadata = {**metadata, TASK_ID: str(task_id)}
        _check_input(body["input"])
        if metadata:
            body["metadata"] = _checked(metadata)
        whole = reading.as_input(body["input"]) or {}
        return NewTask(None if task_id is None else str(task_id), body, whole)

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        """See Provider."""
        if plan.prompt is not None or plan.task_id is not None:
            raise ValueError("Parallel's v1 API has no stored tasks: leave --task and --prompt out")
        if plan.runner is None and any("processor" not in task.body for task in tasks):
            raise ValueError(f"the processor is missing: give --processor {PROCESSORS}")
        if plan.name is not None and len(plan.name) > MAX_VALUE:
            raise ValueError(f"the name has more than {MAX_VALUE} characters")

    def create_batch(
        self, plan: Plan, tasks: Sequence[NewTask], *, webhook_url: str | None
    ) -> Request:
        """See Provider."""
        body = {} if plan.name is None else {"metadata": {"name": plan.name}}
        return Request("POST", "/v1/tasks/groups", json=body)

    def read_created(self, data: Any) -> Created:
        """See Provider."""
        group = word(data.get("taskgroup_id")) if isinstance(data, dict) else None
        if group is None:
            raise Unavailable("the answer to the create call names no task group")
        return Created(group)

    def defaults(self, plan: Plan, tasks: Sequence[NewTask]) -> Mapping[str, Any]:
        """See Provider."""
        return {"processor": plan.runner, "schema": plan.schema}

    def add_tasks(
        self,
        batch: Subject,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callbacks: Sequence[Callback | None],
    ) -> Request:
        """See Provider."""
        body: dict[str, Any] = {
            "inputs": [
                _with_webhook({"processor": defaults.get("processor"), **task.body}, callback)
                for task, callback in zip(tasks, callbacks, strict=True)
            ]
        }
        if defaults.get("schema") is not None:
            body["default_task_spec"] = _task_spec(defaults["schema"])
        path = f"/v1/tasks/groups/{part(batch.id)}/runs"
        return Request("POST", path, {"refresh_status": "false"}, json=body)

    def read_added(self, data: Any) -> Sequence[FetchedRun]:
        """See Provider."""
        listed = data.get("run_ids") if isinstance(data, dict) else None
        ids = [word(found) for found in listed] if isinstance(listed, list) else []
        return [FetchedRun(found, "queued", "queued", {}) for found in ids if found is not None]

    # --- single runs ---------------------------------------------------------------------------

    def new_run(self, options: Mapping[str, Any]) -> NewRun:
        """See Provider. `set` adds what has no option of its own, such as source_policy."""
        for name in options:
            if name not in RUN_OPTIONS:
                raise ValueError(f"Parallel's runs take no --{name.replace('_', '-')}")
        if "runner" not in options:
            raise ValueError(f"the processor is missing: give --processor {PROCESSORS}")
        _check_input(options.get("input"))
        body = {"processor": options["runner"], "input": options["input"]}
        if "metadata" in options:
            body["metadata"] = _checked(options["metadata"])
        if "output_schema" in options:
            body["task_spec"] = _task_spec(options["output_schema"])
        for name, value in options.get("set", {}).items():
            if name in body or name == "webhook":
                raise ValueError(f"`{name}` has an option of its own, or is ours: leave it out")
            body[name] = value
        return NewRun(body, reading.as_input(body["input"]) or {}, body["processor"])

    def create_run(self, new: NewRun, *, webhook_url: str | None) -> Request:
        """See Provider."""
        callback = None if webhook_url is None else Callback(webhook_url, secret="")
        return Request("POST", "/v1/tasks/runs", json=_with_webhook(dict(new.body), callback))

    def read_created_run(self, data: Any) -> Created:
        """See Provider."""
        run_id = word(data.get("run_id")) if isinstance(data, dict) else None
        if run_id is None:
            raise Unavailable("the answer to the create call names no run")
        return Created(run_id)

    # --- reading -------------------------------------------------------------------------------

    def batch(self, batch: Subject) -> Request:
        """See Provider."""
        return Request("GET", f"/v1/tasks/groups/{part(batch.id)}")

    def read_batch(self, data: Any, batch: Subject) -> FetchedBatch:
        """See Provider."""
        if not isinstance(data, dict) or data.get("taskgroup_id") != batch.id:
            raise Unavailable(f"the answer is not about {batch.id}")
        return reading.group(data)

    def list_runs(self, batch: Subject, *, cursor: str | None, size: int | None) -> Request:
        """See Provider."""
        params = {"include_input": "true", "include_output": "true"}
        if cursor is not None:
            params["last_event_id"] = cursor
        return Request("GET", f"/v1/tasks/groups/{part(batch.id)}/runs", params)

    def read_streamed(
        self, item: Any, batch: FetchedBatch, *, defaults: Mapping[str, Any]
    ) -> Streamed:
        """See Provider. Events of other types, and those to come, move the cursor alone."""
        if not isinstance(item, dict):
            return Streamed(None)
        if item.get("type") == "error":
            said = responses.said(Answer(200, {}, item))
            raise Unavailable(f"the stream of {batch.batch_id} ended with an error: {said}")
        cursor = word(item.get("event_id"))
        if not isinstance(item.get("run"), dict):
            return Streamed(None, cursor)
        run = reading.run(item["run"], given=item.get("input"), brought=item.get("output"))
        if run is None or run.batch_id not in (None, batch.batch_id):
            return Streamed(None, cursor)
        return Streamed(reading.in_group(run, batch), cursor)

    def run(self, run: Subject) -> Sequence[Request]:
        """See Provider. Only what has completed has a result to ask for, and that call waits."""
        path = f"/v1/tasks/runs/{part(run.id)}"
        itself = Request("GET", path)
        if run.status not in (None, "completed"):
            return [itself]
        timeout = {"timeout": str(self.result_seconds)}
        return [Request("GET", f"{path}/result", timeout, waits=True), itself]

    def read_run(self, data: Any, run: Subject) -> FetchedRun:
        """See Provider. The result call wraps the run, the other does not."""
        found = None
        if isinstance(data, dict) and isinstance(data.get("run"), dict):
            found = reading.run(data["run"], brought=data.get("output"))
        elif isinstance(data, dict):
            found = reading.run(data)
        if found is None or found.run_id != run.id:
            raise Unavailable(f"the answer is not about {run.id}")
        return found

    def input(self, run: Subject) -> Request:
        """See Provider."""
        return Request("GET", f"/v1/tasks/runs/{part(run.id)}/input")

    def read_input(self, data: Any) -> dict[str, Any] | None:
        """See Provider."""
        return reading.as_input(data.get("input")) if isinstance(data, dict) else None


def _with_webhook(body: dict[str, Any], callback: Callback | None) -> dict[str, Any]:
    if callback is None:
        return body
    return {**body, "webhook": {"url": callback.url, "event_types": [RUN_EVENT]}}


def _task_spec(schema: Any) -> dict[str, Any]:
    return {"output_schema": {"type": "json", "json_schema": schema}}


def _check_input(given: Any) -> None:
    if not isinstance(given, str | dict) or not given:
        raise ValueError("the input is missing or empty: text or a JSON object is needed")
    length = len(given) if isinstance(given, str) else sum(len(str(v)) for v in given.values())
    if length > MAX_INPUT:
        raise ValueError(f"the input has {length} characters; {MAX_INPUT} are allowed")


def _checked(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as Parallel takes it: short keys, short text, numbers and truth values."""
    for key, value in metadata.items():
        if len(key) > MAX_KEY:
            raise ValueError(f"the metadata `{key}` has a name of more than {MAX_KEY} characters")
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"the metadata `{key}` must be text or a number")
        if isinstance(value, str) and len(value) > MAX_VALUE:
            raise ValueError(f"the metadata `{key}` has more than {MAX_VALUE} characters")
    return metadata
