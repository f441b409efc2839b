"""Valyu DeepResearch: its webhooks, batches, tasks and contents jobs.

The fact sheet of this project's contracts says how its API and its webhooks behave. `reading` reads
its answers, `tasks` creates and steers single tasks.

Its oddities: `mode` may come as `research_mode` or `model`; `batch_id` stands in a task's result
too, so a body with a `deepresearch_id` is a task's; a batch may come flat or inside a wrapper; the
user's id is `task_id` in lists and `batch_task_id` in a task's status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.errors import Unavailable
from receiver.json_values import items, strictly, text, word
from receiver.providers.capabilities.batches import (
    AddsToBatches,
    CancelsBatches,
    ListsBatches,
    ListsPages,
    take_task_id,
)
from receiver.providers.capabilities.runs import EmbedsResults, HasArtifacts
from receiver.providers.model import (
    Announcement,
    Artifact,
    Callback,
    Created,
    NewTask,
    Page,
    Plan,
    Request,
    Subject,
)
from receiver.providers.responses import part
from receiver.providers.valyu import reading
from receiver.providers.valyu.limits import MAX_QUERY
from receiver.providers.valyu.tasks import ValyuTasks
from receiver.signatures.schemes import TIMESTAMP_BODY
from storage import FetchedBatch, FetchedRun

WRAPPERS = ("data", "batch", "task", "result", "payload")
IDENTITY = frozenset({"job_id", "deepresearch_id", "batch_id", "status", "completed_at", *WRAPPERS})

# What BatchTask takes (valyu 2.13.1); other columns of a tasks file travel as its metadata.
TASK_FIELDS = frozenset({"query", "research_strategy", "report_format", "urls", "metadata"})
BATCH_MODES = ("fast", "standard", "heavy", "max")


@dataclass(frozen=True)
class Valyu(
    ValyuTasks,
    EmbedsResults,
    HasArtifacts,
    ListsPages,
    ListsBatches,
    AddsToBatches,
    CancelsBatches,
):
    """The provider `valyu`."""

    name = "valyu"
    scheme = TIMESTAMP_BODY
    currency = "USD"
    base_url = "https://api.valyu.ai/v1"
    kinds = frozenset({"batch", "task", "contents"})
    announced_at = "endpoint"
    statuses = reading.STATUSES
    tasks_per_call = 100
    columns = (TASK_FIELDS - {"metadata"}) | {"id", "task_id"}
    required = "query"

    # --- webhooks ------------------------------------------------------------------------------

    def identify(self, body: bytes) -> Announcement | None:
        parsed = strictly(body, IDENTITY)
        if parsed is None:
            return None
        if (found := reading.announced(parsed)) is not None:
            return found
        for inner in map(parsed.get, WRAPPERS):
            if isinstance(inner, dict) and (found := reading.announced(inner)) is not None:
                return found
        return None

    def read_embedded(self, body: bytes, run_id: str) -> FetchedRun | None:
        parsed = strictly(body, IDENTITY)
        for candidate in (parsed, *(parsed.get(name) for name in WRAPPERS)) if parsed else ():
            run = _either(candidate) if isinstance(candidate, dict) else None
            if run is not None and run.run_id == run_id and run.is_result:
                return run
        return None

    def probe(self) -> Request:
        return self.batches()

    # --- creating batches ----------------------------------------------------------------------

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        if plan.runner is not None and plan.runner not in BATCH_MODES:
            raise ValueError(f"the mode {plan.runner!r} is not one of {', '.join(BATCH_MODES)}")
        if plan.prompt is not None or plan.task_id is not None:
            raise ValueError("Valyu has no stored tasks: write the whole query into each task")

    def create_batch(self, plan: Plan, *, webhook_url: str | None) -> Request:
        """Create an empty batch, whose outputs are Markdown reports unless there is a schema."""
        body: dict[str, Any] = {"mode": plan.runner or "standard", "webhook_url": webhook_url}
        if plan.name is not None:
            body["name"] = plan.name
        if plan.schema is not None:
            body["output_formats"] = [plan.schema]
        return Request("POST", "/deepresearch/batches", json=body)

    def read_created(self, data: object) -> Created:
        batch_id = word(data.get("batch_id")) if isinstance(data, dict) else None
        if not isinstance(data, dict) or batch_id is None:
            raise Unavailable("the answer to the create call names no batch")
        return Created(batch_id, text(data.get("webhook_secret")))

    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """Make a task of a row: `id` is the user's own, columns without a meaning are metadata."""
        given = {key: value for key, value in row.items() if value not in (None, "")}
        task_id = take_task_id(given)
        query = given.get("query")
        if not isinstance(query, str) or not query.strip():
            raise ValueError("`query` is missing or empty")
        if len(query) > MAX_QUERY:
            raise ValueError(f"`query` has {len(query)} characters; {MAX_QUERY} are allowed")
        body = {key: value for key, value in given.items() if key in TASK_FIELDS}
        if isinstance(body.get("urls"), str):
            body["urls"] = body["urls"].split()
        _check_task(body)
        extra = {key: value for key, value in given.items() if key not in TASK_FIELDS}
        if extra:
            body["metadata"] = {**body.get("metadata", {}), **extra}
        if task_id is not None:
            body["id"] = task_id
        return NewTask(task_id, body, given)

    def add_tasks(
        self,
        batch: Subject,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callback: Callback | None,
    ) -> Request:
        """Add tasks to a batch, which has the webhook and the defaults for all of them."""
        body = {"tasks": [dict(task.body) for task in tasks]}
        return Request("POST", f"/deepresearch/batches/{part(batch.id)}/tasks", json=body)

    def key_of(self, task: NewTask) -> str:
        return _key(task.task_id, task.body.get("query"))

    def key_of_run(self, run: FetchedRun) -> str | None:
        return _key(run.task_id, (run.input or {}).get("query"))

    def read_added(self, data: object) -> Sequence[FetchedRun]:
        found = data.get("tasks") if isinstance(data, dict) else None
        return [run for item in items(found) if (run := reading.run(item)) is not None]

    def cancel_batch(self, batch: Subject) -> Request:
        return Request("POST", f"/deepresearch/batches/{part(batch.id)}/cancel", json={})

    # --- reading -------------------------------------------------------------------------------

    def batches(self, limit: int = 100) -> Request:
        return Request("GET", "/deepresearch/batches", {"limit": str(limit)})

    def read_batches(self, data: object) -> Sequence[FetchedBatch]:
        """Read the batches of a listing, which some versions wrap."""
        listed = data.get("batches") if isinstance(data, dict) else data
        if not isinstance(listed, list):
            raise Unavailable("the answer is no list of batches")
        return [reading.batch(item) for item in items(listed) if word(item.get("batch_id"))]

    def batch(self, batch: Subject) -> Request:
        return Request("GET", f"/deepresearch/batches/{part(batch.id)}")

    def read_batch(self, data: object, batch: Subject) -> FetchedBatch:
        """Read the status of a batch, which some versions wrap; raises Unavailable."""
        if isinstance(data, dict) and isinstance(data.get("batch"), dict):
            data = data["batch"]
        if not isinstance(data, dict) or data.get("batch_id") != batch.id:
            raise Unavailable(f"the answer is not about {batch.id}")
        return reading.batch(data)

    def list_runs(self, batch: Subject, *, cursor: str | None, size: int | None) -> Request:
        params = {"include_output": "true"}
        if size is not None:
            params["limit"] = str(size)
        if cursor is not None:
            params["last_key"] = cursor
        return Request("GET", f"/deepresearch/batches/{part(batch.id)}/tasks", params)

    def read_page(self, data: object, batch: FetchedBatch) -> Page:
        if not isinstance(data, dict) or not isinstance(data.get("tasks"), list):
            raise Unavailable("the answer is no page of tasks")
        if data.get("batch_id") not in (None, batch.batch_id):
            raise Unavailable(f"the page is not of {batch.batch_id}")
        mine = (item for item in items(data["tasks"]) if reading.is_of(item, batch))
        read = (reading.run(item, batch) for item in mine)
        found = data.get("pagination")
        pagination = found if isinstance(found, dict) else {}
        return Page(
            runs=[run for run in read if run is not None],
            cursor=text(pagination.get("last_key")),
            has_more=pagination.get("has_more") is True,
        )

    def run(self, run: Subject) -> Sequence[Request]:
        if run.kind == "contents":
            return [Request("GET", f"/contents/jobs/{part(run.id)}")]
        return [Request("GET", f"/deepresearch/tasks/{part(run.id)}/status")]

    def read_run(self, data: object, run: Subject) -> FetchedRun:
        found = _either(data) if isinstance(data, dict) else None
        if found is None or found.run_id != run.id:
            raise Unavailable(f"the answer is not about {run.id}")
        return found

    def artifacts(self, raw: Mapping[str, object]) -> Sequence[Artifact]:
        return reading.artifacts(raw)


def _either(data: Mapping[str, object]) -> FetchedRun | None:
    """Read a task or a contents job."""
    return reading.run(data) or reading.contents(data)


def _key(task_id: str | None, query: object) -> str:
    """Return the user's id, which a listing gives back, or else the question."""
    return f"query {query}" if task_id is None else f"id {task_id}"


def _check_task(body: Mapping[str, Any]) -> None:
    for name, kind in (("urls", list), ("metadata", dict)):
        if name in body and not isinstance(body[name], kind):
            raise ValueError(f"`{name}` must be a JSON {'list' if kind is list else 'object'}")
    for name in ("research_strategy", "report_format"):
        if name in body and not isinstance(body[name], str):
            raise ValueError(f"`{name}` must be text")
