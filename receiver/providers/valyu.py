"""Valyu DeepResearch: tasks and batches. What its API and webhooks do stands in the fact sheet
of this project's contracts; what is documented nowhere is read as leniently as identity allows.

Oddities honoured here: `mode` may come as `research_mode` or `model`; `batch_id` stands in a
task's result too, so a body with a `deepresearch_id` is a task's; a batch may come flat or inside
a wrapper; the user's id is `task_id` in lists and `batch_task_id` in a task's status.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from receiver.errors import (
    Forbidden,
    Missing,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
)
from receiver.providers import Announcement, Answer, Created, NewTask, Page, Request
from receiver.providers.reading import items, moment, number, strictly, text, whole, word
from receiver.retry import parse_retry_after
from receiver.schemes import TIMESTAMP_BODY
from storage import FetchedBatch, FetchedRun

WRAPPERS = ("data", "batch", "task", "result", "payload")
IDENTITY = frozenset({"job_id", "deepresearch_id", "batch_id", "status", "completed_at", *WRAPPERS})

# Every other status is taken for an end; what is complete, the counts decide.
GOING_ON = frozenset(
    {"open", "processing", "queued", "pending", "running", "awaiting_input", "paused"}
)
TASK_STATUS = {
    "queued": "queued",
    "pending": "queued",
    "running": "running",
    "awaiting_input": "running",
    "paused": "running",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
}

# What BatchTask takes (valyu 2.13.1); other columns of a tasks file travel as its metadata.
TASK_FIELDS = frozenset({"query", "research_strategy", "report_format", "urls", "metadata"})
MODES = ("fast", "standard", "heavy", "max")
MAX_QUERY = 25_000


class Valyu:
    """The provider `valyu`."""

    name = "valyu"
    scheme = TIMESTAMP_BODY
    base_url = "https://api.valyu.ai/v1"
    kinds = frozenset({"batch", "task"})
    page_size = 100
    tasks_per_call = 100

    # --- webhooks ------------------------------------------------------------------------------

    def identify(self, body: bytes) -> Announcement | None:
        """See Provider. A contents job is named as such, though nothing is fetched for it yet."""
        parsed = strictly(body, IDENTITY)
        if parsed is None:
            return None
        if (found := _announced(parsed)) is not None:
            return found
        for candidate in map(parsed.get, WRAPPERS):
            if isinstance(candidate, dict) and (found := _announced(candidate)) is not None:
                return found
        return None

    # --- answers -------------------------------------------------------------------------------

    def headers(self, api_key: str) -> Mapping[str, str]:
        """See Provider."""
        return {"x-api-key": api_key}

    def judge(self, answer: Answer, *, now: float) -> None:
        """See Provider. 401 and 402 speak of the account (key, credit); 403 perhaps."""
        said = _said(answer)
        if answer.status < 300 and isinstance(answer.data, dict | list):
            return
        asked = parse_retry_after(answer.headers.get("retry-after"), now=now)
        if asked is None and isinstance(answer.data, dict):
            asked = number(answer.data.get("retry_after"))
        match answer.status:
            case 429:
                raise RateLimited(said, retry_after=asked)
            case 403:
                raise Forbidden(said, retry_after=asked)
            case 401 | 402:
                raise SourceRefused(said, retry_after=asked)
            case 404:
                raise Missing(said)
            case 409 | 425:
                raise NotReady(said, retry_after=asked)
            case 408:
                raise Unavailable(said, retry_after=asked)
            case status if 400 <= status < 500 and answer.data is not None:
                raise Refused(said)
            case _:
                raise Unavailable(said, retry_after=asked)

    # --- creating ------------------------------------------------------------------------------

    def create_batch(
        self, *, name: str | None, mode: str | None, webhook_url: str, schema: Any
    ) -> Request:
        """See Provider. `schema` is a JSON schema for the outputs, None for Markdown reports."""
        if mode is not None and mode not in MODES:
            raise ValueError(f"the mode {mode!r} is not one of {', '.join(MODES)}")
        body: dict[str, Any] = {"mode": mode or "standard", "webhook_url": webhook_url}
        if name is not None:
            body["name"] = name
        if schema is not None:
            body["output_formats"] = [schema]
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

    def add_tasks(self, batch_id: str, tasks: Sequence[NewTask]) -> Request:
        """See Provider."""
        body = {"tasks": [dict(task.body) for task in tasks]}
        return Request("POST", f"/deepresearch/batches/{_part(batch_id)}/tasks", json=body)

    def read_added(self, data: Any) -> Sequence[FetchedRun]:
        """See Provider."""
        found = data.get("tasks") if isinstance(data, dict) else None
        return [run for item in items(found) if (run := _run(item, None)) is not None]

    def cancel_batch(self, batch_id: str) -> Request:
        """See Provider."""
        return Request("POST", f"/deepresearch/batches/{_part(batch_id)}/cancel", json={})

    # --- reading -------------------------------------------------------------------------------

    def batches(self) -> Request:
        """See Provider."""
        return Request("GET", "/deepresearch/batches", {"limit": "100"})

    def read_batches(self, data: Any) -> Sequence[FetchedBatch]:
        """See Provider. Some versions wrap the list."""
        listed = data.get("batches") if isinstance(data, dict) else data
        return [_batch(item) for item in items(listed) if word(item.get("batch_id"))]

    def batch(self, batch_id: str) -> Request:
        """See Provider."""
        return Request("GET", f"/deepresearch/batches/{_part(batch_id)}")

    def read_batch(self, data: Any, batch_id: str) -> FetchedBatch:
        """See Provider. Some versions wrap the batch."""
        if isinstance(data, dict) and isinstance(data.get("batch"), dict):
            data = data["batch"]
        if not isinstance(data, dict) or data.get("batch_id") != batch_id:
            raise Unavailable(f"the answer is not about {batch_id}")
        return _batch(data)

    def page(self, batch_id: str, *, cursor: str | None, size: int | None) -> Request:
        """See Provider."""
        params = {"include_output": "true"}
        if size is not None:
            params["limit"] = str(size)
        if cursor is not None:
            params["last_key"] = cursor
        return Request("GET", f"/deepresearch/batches/{_part(batch_id)}/tasks", params)

    def read_page(self, data: Any, batch: FetchedBatch) -> Page:
        """See Provider."""
        if not isinstance(data, dict) or not isinstance(data.get("tasks"), list):
            raise Unavailable("the answer is no page of tasks")
        if data.get("batch_id") not in (None, batch.batch_id):
            raise Unavailable(f"the page is not of {batch.batch_id}")
        mine = (item for item in items(data["tasks"]) if _is_of(item, batch))
        read = (_run(item, batch) for item in mine)
        told = data.get("pagination")
        pagination = told if isinstance(told, dict) else {}
        return Page(
            runs=[run for run in read if run is not None],
            cursor=text(pagination.get("last_key")),
            has_more=pagination.get("has_more") is True,
        )

    def run(self, run_id: str) -> Request:
        """See Provider."""
        return Request("GET", f"/deepresearch/tasks/{_part(run_id)}/status")

    def read_run(self, data: Any, run_id: str) -> FetchedRun:
        """See Provider."""
        run = _run(data, None) if isinstance(data, dict) else None
        if run is None or run.run_id != run_id:
            raise Unavailable(f"the answer is not about {run_id}")
        return run

    def read_carried(self, body: bytes, run_id: str) -> FetchedRun | None:
        """See Provider."""
        parsed = strictly(body, IDENTITY)
        for candidate in (parsed, *(parsed.get(name) for name in WRAPPERS)) if parsed else ():
            run = _run(candidate, None) if isinstance(candidate, dict) else None
            if run is not None and run.run_id == run_id and run.is_result:
                return run
        return None


def _announced(body: Mapping[str, Any]) -> Announcement | None:
    for field, kind in (("job_id", "contents"), ("deepresearch_id", "task"), ("batch_id", "batch")):
        if field not in body:
            continue
        resource = word(body[field])
        if resource is None:
            return None
        status = word(body.get("status"))
        return Announcement(
            kind=kind,
            resource=resource,
            batch_id=word(body.get("batch_id")),
            status=status,
            stamp=word(body.get("completed_at")),
            is_end=status not in GOING_ON,
        )
    return None


def _batch(data: Mapping[str, Any]) -> FetchedBatch:
    told = data.get("counts")
    counts = {
        name: found
        for name, value in (told.items() if isinstance(told, dict) else ())
        if (found := whole(value)) is not None
    }
    ended = [counts.get(name) for name in ("completed", "failed", "cancelled")]
    status = word(data.get("status")) or "unknown"
    return FetchedBatch(
        batch_id=data["batch_id"],
        sender_status=status,
        is_terminal=status not in GOING_ON,
        total=counts.get("total"),
        ended=None if None in ended else sum(count or 0 for count in ended),
        name=text(data.get("name")),
        runner=_mode(data),
        webhook_url=text(data.get("webhook_url")),
        counts=counts,
        created_at=moment(data.get("created_at")),
    )


def _is_of(item: Mapping[str, Any], batch: FetchedBatch) -> bool:
    """Whether a listed task does not itself say that it is another batch's."""
    return word(item.get("batch_id")) in (None, batch.batch_id)


def _run(data: Mapping[str, Any], batch: FetchedBatch | None) -> FetchedRun | None:
    """One task as lists and status calls show it; None without an id."""
    run_id = word(data.get("deepresearch_id"))
    if run_id is None:
        return None
    sender_status = word(data.get("status")) or "unknown"
    query = text(data.get("query")) or text(data.get("input"))
    return FetchedRun(
        run_id=run_id,
        status=TASK_STATUS.get(sender_status, "running"),
        sender_status=sender_status,
        raw=dict(data),
        batch_id=batch.batch_id if batch else word(data.get("batch_id")),
        task_id=text(data.get("task_id")) or text(data.get("batch_task_id")),
        runner=_mode(data) or (batch.runner if batch else None),
        input=None if query is None else {"query": query},
        output=data.get("output"),
        output_type=text(data.get("output_type")),
        sources=data.get("sources") or None,
        error=_error(data.get("error")),
        cost=number(data.get("cost")),
        created_at=moment(data.get("created_at")),
        completed_at=moment(data.get("completed_at")),
        has_output=data.get("output") is not None,
    )


def _check_task(body: Mapping[str, Any]) -> None:
    for name, kind in (("urls", list), ("metadata", dict)):
        if name in body and not isinstance(body[name], kind):
            raise ValueError(f"`{name}` must be a JSON {'list' if kind is list else 'object'}")
    for name in ("research_strategy", "report_format"):
        if name in body and not isinstance(body[name], str):
            raise ValueError(f"`{name}` must be text")


def _mode(data: Mapping[str, Any]) -> str | None:
    return word(data.get("mode")) or word(data.get("research_mode")) or word(data.get("model"))


def _error(value: Any) -> str | None:
    if not value or isinstance(value, str):
        return value or None
    return str(value.get("message") or value) if isinstance(value, dict) else str(value)


def _said(answer: Answer) -> str:
    """The status and the sender's own words, which name the cause."""
    if not isinstance(answer.data, dict):
        kind = "" if isinstance(answer.data, list) else ", which is no JSON"
        return f"the sender answered {answer.status}{kind}"
    words = answer.data.get("message") or answer.data.get("error") or ""
    return f"the sender answered {answer.status}: {str(words)[:300]}".rstrip(": ")


def _part(value: str) -> str:
    return quote(value, safe="")
