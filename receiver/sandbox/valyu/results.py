"""Results of tasks: output, sources, images and files in the shapes that Valyu's SDK parses."""

from datetime import datetime
from typing import Any

from receiver.sandbox import content
from receiver.sandbox.responses import given
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.assets import asset_url, pdf_url
from receiver.sandbox.valyu.records import DONE, ValyuTask
from receiver.sandbox.valyu.requests import CreateValyuTask

# The price of `instant` is made up.
PRICES = {
    "instant": 0.05,
    "fast": 0.15625,
    "standard": 0.625,
    "lite": 0.625,
    "heavy": 3.125,
    "max": 15.625,
}
"""USD per task, by mode."""


def stamp(moment: datetime) -> str:
    """Return a time as most answers have it: 2026-10-05T09:00:00.000Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Return a time as images, deliverables and contents jobs have it."""
    return round(moment.timestamp() * 1000)


def result(task: ValyuTask, panel: Panel) -> dict[str, Any]:
    """Return the result of a task: nothing before it is done, little but an error if it failed."""
    switches = panel.switches
    if task.status not in DONE:
        return {}
    price = PRICES[task.settings.mode]
    if task.status == "completed":
        return given(
            **output(task, switches),
            sources=content.citations(task.query, seed=switches.seed, count=switches.sources),
            images=_images(task, panel),
            pdf_url=pdf_url(task, panel),
            deliverables=_deliverables(task, panel) or None,
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


def output(task: ValyuTask, switches: Switches) -> dict[str, Any]:
    """Return the output in the requested format: markdown, or JSON or toon by a schema."""
    formats = task.settings.output_formats
    schema = next((each for each in formats if isinstance(each, dict)), None)
    if schema is None:
        text = content.report(task.query, seed=switches.seed, size=switches.output_bytes)
        return {"output_type": "markdown", "output": text}
    value = content.matching(schema, seed=switches.seed, query=task.query)
    if "toon" in formats:
        return {"output_type": "toon", "output": content.as_toon(value)}
    return {"output_type": "json", "output": value}


def _images(task: ValyuTask, panel: Panel) -> list[dict[str, Any]]:
    made_at = milliseconds(task.ended_at or task.created_at)
    return [
        {
            "image_id": (image := f"img_{number}"),
            "image_type": "chart",
            "chart_type": "bar",
            "title": f"Chart {number} on {content.title(task.query)}",
            "image_url": asset_url(task, image, panel),
            "created_at": made_at,
        }
        for number in range(1, panel.switches.images + 1)
    ]


def _deliverables(task: ValyuTask, panel: Panel) -> list[dict[str, Any]]:
    if not isinstance(task.settings, CreateValyuTask):
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
            "url": asset_url(task, deliverable, panel),
            # Valyu has been asked to remove this, but the SDK requires it.
            "s3_key": f"deliverables/{task.deepresearch_id}/{deliverable}",
            "created_at": made_at,
        }
        for number, (kind, request) in enumerate(wanted, 1)
    ]
