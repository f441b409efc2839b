"""What a task brought: output, sources, images and files in the shapes the official SDK parses."""

from datetime import datetime
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu.assets import asset_url, pdf_url
from receiver.sandbox.valyu.records import DONE, Task
from receiver.sandbox.valyu.requests import CreateTask

# USD per task; the figure of `instant` is ours.
PRICES = {
    "instant": 0.05,
    "fast": 0.15625,
    "standard": 0.625,
    "lite": 0.625,
    "heavy": 3.125,
    "max": 15.625,
}


def stamp(moment: datetime) -> str:
    """A time as the API writes it: 2026-10-05T09:00:00.000Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """A time as the API writes those of images, deliverables and contents jobs."""
    return round(moment.timestamp() * 1000)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def result(task: Task, switches: Switches) -> dict[str, Any]:
    """What a task brought: nothing before it is done, an error and little else if it failed."""
    if task.status not in DONE:
        return {}
    price = PRICES[task.settings.mode]
    if task.status == "completed":
        return given(
            **output(task, switches),
            sources=content.sources(task.query, seed=switches.seed, count=switches.sources),
            images=_images(task, switches),
            pdf_url=pdf_url(task, switches),
            deliverables=_deliverables(task, switches) or None,
            cost=price,
        )
    failed = task.status == "failed"
    partial = failed and switches.partial_output_on_failed
    return given(
        **(output(task, switches) if partial else {}),
        error=content.failure(task.query, seed=switches.seed) if failed else None,
        sources=[],
        cost=price if failed and switches.failed_tasks_cost else 0,
    )


def output(task: Task, switches: Switches) -> dict[str, Any]:
    """The output in the format asked for: markdown, or JSON or toon to a schema."""
    formats = task.settings.output_formats
    schema = next((each for each in formats if isinstance(each, dict)), None)
    if schema is None:
        text = content.report(task.query, seed=switches.seed, size=switches.output_bytes)
        return {"output_type": "markdown", "output": text}
    value = content.matching(schema, seed=switches.seed, query=task.query)
    if "toon" in formats:
        return {"output_type": "toon", "output": content.as_toon(value)}
    return {"output_type": "json", "output": value}


def _images(task: Task, switches: Switches) -> list[dict[str, Any]]:
    made_at = milliseconds(task.ended_at or task.created_at)
    return [
        {
            "image_id": (image := f"img_{number}"),
            "image_type": "chart",
            "chart_type": "bar",
            "title": f"Chart {number} on {content.title(task.query)}",
            "image_url": asset_url(task, image, switches),
            "created_at": made_at,
        }
        for number in range(1, switches.images + 1)
    ]


def _deliverables(task: Task, switches: Switches) -> list[dict[str, Any]]:
    if not isinstance(task.settings, CreateTask):
        return []
    made_at = milliseconds(task.ended_at or task.created_at)
    wanted = [
        ("pdf", each) if isinstance(each, str) else (each.type, each.description)
        for each in task.settings.deliverables
    ]
    return [
        {
            "id": (deliverable := f"del_{number}"),
            "request": request,
            "type": kind,
            "status": "completed",
            "title": f"deliverable-{number}.{kind}",
            "url": asset_url(task, deliverable, switches),
            # Valyu has been asked to leave this out, but the SDK can not do without it.
            "s3_key": f"deliverables/{task.deepresearch_id}/{deliverable}",
            "created_at": made_at,
        }
        for number, (kind, request) in enumerate(wanted, 1)
    ]
