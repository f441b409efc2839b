"""Reading Valyu's answers and bodies, as leniently as identity allows."""

from collections.abc import Mapping

from receiver.json_values import counted, items, moment, number, text, word
from receiver.providers.model import Announcement, Artifact
from storage import TERMINAL, FetchedBatch, FetchedRun

# Every other status is taken for an end; the counts decide whether the batch is complete.
GOING_ON = frozenset(
    {"open", "processing", "queued", "pending", "running", "awaiting_input", "paused"}
)
STATUSES = {
    "queued": "queued",
    "pending": "queued",
    "running": "running",
    "processing": "running",
    "awaiting_input": "running",
    "paused": "running",
    "completed": "completed",
    "partial": "completed",  # a contents job some of whose URLs failed
    "failed": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
}
AWAITING = frozenset({"awaiting_input", "paused"})


def announced(body: Mapping[str, object]) -> Announcement | None:
    """Return what a body announces. A task of a batch has both ids, so the order matters."""
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


def batch(data: Mapping[str, object]) -> FetchedBatch:
    """Read a batch, which must have an id."""
    counts = counted(data.get("counts"))
    ended = [counts.get(name) for name in ("completed", "failed", "cancelled")]
    status = word(data.get("status")) or "unknown"
    return FetchedBatch(
        batch_id=str(data["batch_id"]),
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


def is_of(item: Mapping[str, object], listed: FetchedBatch) -> bool:
    """Return False for a listed task that names another batch."""
    return word(item.get("batch_id")) in (None, listed.batch_id)


def run(data: Mapping[str, object], listed: FetchedBatch | None = None) -> FetchedRun | None:
    """Read a task, as lists (of a batch) and status calls show it; None without an id."""
    run_id = word(data.get("deepresearch_id"))
    if run_id is None:
        return None
    sender_status = word(data.get("status")) or "unknown"
    query = text(data.get("query")) or text(data.get("input"))
    return FetchedRun(
        run_id=run_id,
        status=STATUSES.get(sender_status, "running"),
        sender_status=sender_status,
        raw=dict(data),
        batch_id=listed.batch_id if listed else word(data.get("batch_id")),
        task_id=text(data.get("task_id")) or text(data.get("batch_task_id")),
        runner=_mode(data) or (listed.runner if listed else None),
        input=None if query is None else {"query": query},
        output=data.get("output"),
        output_type=text(data.get("output_type")),
        sources=data.get("sources") or None,
        error=_error(data.get("error")),
        cost=number(data.get("cost")),
        created_at=moment(data.get("created_at")),
        completed_at=moment(data.get("completed_at")),
        has_output=data.get("output") is not None,
        is_whole=listed is None or sender_status != "failed" or bool(data.get("error")),
        waits_for=_question(data) if sender_status in AWAITING else None,
    )


def contents(data: Mapping[str, object]) -> FetchedRun | None:
    """Read a contents job, whose output has an entry for each URL; None without an id."""
    job_id = word(data.get("job_id"))
    if job_id is None:
        return None
    sender_status = word(data.get("status")) or "unknown"
    status = STATUSES.get(sender_status, "running")
    return FetchedRun(
        run_id=job_id,
        status=status,
        sender_status=sender_status,
        raw=dict(data),
        runner="contents",
        input=_urls(data.get("results")),
        output=data.get("results"),
        output_type="contents",
        error=_error(data.get("error")),
        cost=number(data.get("actual_cost_dollars")),
        created_at=moment(data.get("created_at")),
        completed_at=moment(data.get("updated_at")) if status in TERMINAL else None,
        has_output=data.get("results") is not None,
    )


def _urls(results: object) -> dict[str, object] | None:
    """Return the input of a contents job, of which its status names the URLs alone."""
    urls = [url for item in items(results) if (url := text(item.get("url"))) is not None]
    return {"urls": urls} if urls else None


def artifacts(raw: Mapping[str, object]) -> list[Artifact]:
    """Return the deliverables, the images and the PDF of a task's result."""
    found = [
        Artifact(
            kind=text(item.get("type")) or "deliverable",
            id=text(item.get("id")),
            title=text(item.get("title")) or text(item.get("request")),
            url=text(item.get("url")),
            status=text(item.get("status")),
        )
        for item in items(raw.get("deliverables"))
    ]
    found += [
        Artifact(
            kind="image",
            id=text(item.get("image_id")),
            title=text(item.get("title")),
            url=text(item.get("image_url")),
        )
        for item in items(raw.get("images"))
    ]
    if (pdf := text(raw.get("pdf_url"))) is not None:
        found.append(Artifact(kind="pdf", id=None, title=text(raw.get("title")), url=pdf))
    return found


def _question(data: Mapping[str, object]) -> dict[str, object]:
    """Return the question of a run; empty where it is not named."""
    interaction = data.get("interaction")
    return interaction if isinstance(interaction, dict) else {}


def _mode(data: Mapping[str, object]) -> str | None:
    return word(data.get("mode")) or word(data.get("research_mode")) or word(data.get("model"))


def _error(value: object) -> str | None:
    if not value or isinstance(value, str):
        return text(value)
    return str(value.get("message") or value) if isinstance(value, dict) else str(value)
