"""Valyu DeepResearch: tasks, batches and contents jobs. What its API and webhooks do stands in the
fact sheet of this project's contracts; `valyu_reading` reads its answers, and `valyu_tasks` has
what concerns single tasks alone.

Oddities honoured here: `mode` may come as `research_mode` or `model`; `batch_id` stands in a
task's result too, so a body with a `deepresearch_id` is a task's; a batch may come flat or inside
a wrapper; the user's id is `task_id` in lists and `batch_task_id` in a task's status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.errors import Unavailable
from receiver.json_values import items, strictly, text, word
from receiver.providers import responses
from receiver.providers.model import (
    Announcement,
    Answer,
    Artifact,
    Callback,
    Created,
    Listing,
    NewTask,
    Page,
    Plan,
    Request,
    Subject,
)
from receiver.providers.responses import part
from receiver.providers.valyu import reading
from receiver.providers.valyu.tasks import ValyuTasks
from receiver.signatures.schemes import TIMESTAMP_BODY
from storage import FetchedBatch, FetchedRun

WRAPPERS = ("data", "batch", "task", "result", "payload")
IDENTITY = frozenset({"job_id", "deepresearch_id", "batch_id", "status", "completed_at", *WRAPPERS})

# What BatchTask takes (valyu 2.13.1); other columns of a tasks file travel as its metadata.
TASK_FIELDS = frozenset({"query", "research_strategy", "report_format", "urls", "metadata"})
MODES = ("fast", "standard", "heavy", "max")
MAX_QUERY = 25_000


@dataclass(frozen=True)
class Valyu(ValyuTasks):
    """The provider `valyu`."""

    name = "valyu"
    scheme = TIMESTAMP_BODY
    base_url = "https://api.valyu.ai/v1"
    kinds = frozenset({"batch", "task", "contents"})
    announced_at = "batch"
    statuses = reading.STATUSES
    tasks_per_call = 100
    columns = (TASK_FIELDS - {"metadata"}) | {"id", "task_id"}
    required = "query"

    @property
    def listing(self) -> Listing:
        """See Provider."""
        return "pages"

    # --- webhooks ------------------------------------------------------------------------------

    def identify(self, body: bytes) -> Announcement | None:
        """See Provider."""
        parsed = strictly(body, IDENTITY)
        if parsed is None:
            return None
        if (found := reading.announced(parsed)) is not None:
            return found
        for inner in map(parsed.get, WRAPPERS):
            if isinstance(inner, dict) and (found := reading.announced(inner)) is not None:
                return found
        return None

    def read_carried(self, body: bytes, run_id: str) -> FetchedRun | None:
        """See Provider."""
        parsed = strictly(body, IDENTITY)
        for candidate in (parsed, *(parsed.get(name) for name in WRAPPERS)) if parsed else ():
            run = _either(candidate) if isinstance(candidate, dict) else None
            if run is not None and run.run_id == run_id and run.is_result:
                return run
        return None

    # --- every call ----------------------------------------------------------------------------

    def judge(self, answer: Answer, *, now: float) -> None:
        """See Provider. 401 and 402 speak of the account (key, credit); 403 perhaps."""
        responses.judge(answer, now=now)

    def probe(self) -> Request:
        """See Provider."""
        return self.batches()

    # --- creating ------------------------------------------------------------------------------

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        """See Provider."""
        if plan.runner is not None and plan.runner not in MODES:
            raise ValueError(f"the mode {plan.runner!r} is not one of {', '.join(MODES)}")
        if plan.prompt is not None or plan.task_id is not None:
            raise ValueError("Valyu has no stored tasks: write the whole query into each task")

    def create_batch(
        self, plan: Plan, tasks: Sequence[NewTask], *, webhook_url: str | None
    ) -> Request:
        """See Provider. Without a schema the outputs are Markdown reports."""
        body: dict[str, Any] = {"mode": plan.runner or "standard", "webhook_url": webhook_url}
        if plan.name is not None:
            body["name"] = plan.name
        if plan.schema is not None:
            body["output_formats"] = [plan.schema]
        return Request("POST", "/deepresearch/batches", json=body)

    def read_created(self, data: Any) -> Created:
        """See Provider."""
        batch_id = word(data.get("batch_id")) if isinstance(data, dict) else None
        if batch_id is None:
            raise Unavailable("the answer to the create call names no batch")
        return Created(batch_id, text(data.get("webhook_secret")))

    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """See Provider. `id` is the user's own; what a task does not take becomes metadata."""
        given = {key: value for key, value in row.items() if value not in (None, "")}
        task_id = given.pop("id", given.pop("task_id", None))
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
            body["id"] = str(task_id)
        return NewTask(None if task_id is None else str(task_id), body, given)

    def add_tasks(
        self,
        batch: Subject,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callbacks: Sequence[Callback | None],
    ) -> Request:
        """See Provider. The webhook is the batch's, and so are the defaults."""
        body = {"tasks": [dict(task.body) for task in tasks]}
        return Request("POST", f"/deepresearch/batches/{part(batch.id)}/tasks", json=body)

    def read_added(self, data: Any) -> Sequence[FetchedRun]:
        """See Provider."""
        found = data.get("tasks") if isinstance(data, dict) else None
        return [run for item in items(found) if (run := reading.run(item)) is not None]

    def cancel_batch(self, batch: Subject) -> Request:
        """See Provider."""
        return Request("POST", f"/deepresearch/batches/{part(batch.id)}/cancel", json={})

    # --- reading -------------------------------------------------------------------------------

    def batches(self) -> Request:
        """See Provider."""
        return Request("GET", "/deepresearch/batches", {"limit": "100"})

    def read_batches(self, data: Any) -> Sequence[FetchedBatch]:
        """See Provider. Some versions wrap the list."""
        listed = data.get("batches") if isinstance(data, dict) else data
        return [reading.batch(item) for item in items(listed) if word(item.get("batch_id"))]

    def batch(self, batch: Subject) -> Request:
        """See Provider."""
        return Request("GET", f"/deepresearch/batches/{part(batch.id)}")

    def read_batch(self, data: Any, batch: Subject) -> FetchedBatch:
        """See Provider. Some versions wrap the batch."""
        if isinstance(data, dict) and isinstance(data.get("batch"), dict):
            data = data["batch"]
        if not isinstance(data, dict) or data.get("batch_id") != batch.id:
            raise Unavailable(f"the answer is not about {batch.id}")
        return reading.batch(data)

    def list_runs(self, batch: Subject, *, cursor: str | None, size: int | None) -> Request:
        """See Provider."""
        params = {"include_output": "true"}
        if size is not None:
            params["limit"] = str(size)
        if cursor is not None:
            params["last_key"] = cursor
        return Request("GET", f"/deepresearch/batches/{part(batch.id)}/tasks", params)

    def read_page(self, data: Any, batch: FetchedBatch) -> Page:
        """See Provider."""
        if not isinstance(data, dict) or not isinstance(data.get("tasks"), list):
            raise Unavailable("the answer is no page of tasks")
        if data.get("batch_id") not in (None, batch.batch_id):
            raise Unavailable(f"the page is not of {batch.batch_id}")
        mine = (item for item in items(data["tasks"]) if reading.is_of(item, batch))
        read = (reading.run(item, batch) for item in mine)
        told = data.get("pagination")
        pagination = told if isinstance(told, dict) else {}
        return Page(
            runs=[run for run in read if run is not None],
            cursor=text(pagination.get("last_key")),
            has_more=pagination.get("has_more") is True,
        )

    def run(self, run: Subject) -> Sequence[Request]:
        """See Provider."""
        if run.kind == "contents":
            return [Request("GET", f"/contents/jobs/{part(run.id)}")]
        return [Request("GET", f"/deepresearch/tasks/{part(run.id)}/status")]

    def read_run(self, data: Any, run: Subject) -> FetchedRun:
        """See Provider."""
        found = _either(data) if isinstance(data, dict) else None
        if found is None or found.run_id != run.id:
            raise Unavailable(f"the answer is not about {run.id}")
        return found

    def artifacts(self, raw: Mapping[str, Any]) -> Sequence[Artifact]:
        """See Provider."""
        return reading.artifacts(raw)


def _either(data: Mapping[str, Any]) -> FetchedRun | None:
    """A task, or a contents job."""
    return reading.run(data) or reading.contents(data)


def _check_task(body: Mapping[str, Any]) -> None:
    for name, kind in (("urls", list), ("metadata", dict)):
        if name in body and not isinstance(body[name], kind):
            raise ValueError(f"`{name}` must be a JSON {'list' if kind is list else 'object'}")
    for name in ("research_strategy", "report_format"):
        if name in body and not isinstance(body[name], str):
            raise ValueError(f"`{name}` must be text")
