"""Valyu's single tasks: creating them from the options of a user, steering them, answering them.

`limits` refuses what the sender would refuse, before anything is created.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from receiver.errors import Unavailable
from receiver.json_values import items, text, word
from receiver.providers.capabilities.runs import (
    AsksQuestions,
    CancelsRuns,
    ListsRuns,
    UpdatesRuns,
)
from receiver.providers.model import Created, NewRun, Request, Subject
from receiver.providers.responses import part
from receiver.providers.valyu import reading
from receiver.providers.valyu.limits import CHECKPOINTS, FILE_TYPES, check
from storage import FetchedRun

TASKS = "/deepresearch/tasks"
FIELDS = {
    "query": "query",
    "runner": "mode",
    "strategy": "research_strategy",
    "report_format": "report_format",
    "search": "search",
    "url": "urls",
    "file": "files",
    "mcp_servers": "mcp_servers",
    "tools": "tools",
    "previous_report": "previous_reports",
    "alert_email": "alert_email",
    "brand_collection": "brand_collection_id",
    "metadata": "metadata",
    "workflow": "workflow_id",
    "workflow_params": "workflow_params",
    "workflow_version": "workflow_version",
}
"""Options whose values travel as they are, under the sender's names."""

OTHERS = frozenset({"format", "output_schema", "deliverable", "hitl", "set"})
OURS = frozenset({"webhook_url"})
NOT_INPUT = frozenset({"mode", "output_formats", "mcp_servers", "alert_email", "tools", "hitl"})
"""Fields that are no part of the question, or may hold credentials."""

EXAMPLES: Mapping[str, object] = {
    "planning_questions": {"answers": [{"question": "...", "answer": "..."}]},
    "plan_review": {"approved": True},
    "source_review": {"included_domains": [], "excluded_domains": []},
    "outline_review": {"approved": True},
}


class ValyuTasks(ListsRuns, UpdatesRuns, CancelsRuns, AsksQuestions):
    """The part of the provider `valyu` that is about single tasks."""

    run_kind = "task"
    runs_listed = 100

    def new_run(self, options: Mapping[str, Any]) -> NewRun:
        body = _body(options)
        check(body)
        if "workflow_id" not in body:  # a workflow has defaults of its own
            body = {"mode": "standard", "output_formats": ["markdown"], **body}
        question = {name: value for name, value in body.items() if name not in NOT_INPUT}
        if "files" in question:
            question["files"] = [file["filename"] for file in body["files"]]
        may_ask = any((body.get("hitl") or {}).values())
        return NewRun(body, question, body.get("mode"), may_ask)

    def create_run(self, new: NewRun, *, webhook_url: str | None) -> Request:
        return Request("POST", TASKS, json={**new.body, "webhook_url": webhook_url})

    def read_created_run(self, data: object) -> Created:
        task_id = word(data.get("deepresearch_id")) if isinstance(data, dict) else None
        if not isinstance(data, dict) or task_id is None:
            raise Unavailable("the answer to the create call names no task")
        return Created(task_id, text(data.get("webhook_secret")))

    def runs(self) -> Request:
        return Request("GET", "/deepresearch/list", {"limit": str(self.runs_listed)})

    def read_runs(self, data: object) -> Sequence[FetchedRun]:
        return [run for item in items(data) if (run := reading.run(item)) is not None]

    def update_run(self, run: Subject, instruction: str) -> Request:
        return Request("POST", f"{TASKS}/{part(run.id)}/update", json={"instruction": instruction})

    def cancel_run(self, run: Subject) -> Request:
        return Request("POST", f"{TASKS}/{part(run.id)}/cancel", json={})

    def respond(self, run: Subject, interaction: str, response: object) -> Request:
        body = {"interaction_id": interaction, "response": response}
        return Request("POST", f"{TASKS}/{part(run.id)}/respond", json=body)

    def example(self, waits_for: Mapping[str, object]) -> object:
        return EXAMPLES.get(str(waits_for.get("type")))


# --- from options to a body ---------------------------------------------------------------------


def _body(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in FIELDS and name not in OTHERS:
            raise ValueError(f"Valyu's tasks take no --{name.replace('_', '-')}")
    body = {FIELDS[name]: value for name, value in options.items() if name in FIELDS}
    formats = list(options.get("format", ()))
    if "output_schema" in options:
        formats.append(options["output_schema"])
    if formats:
        body["output_formats"] = formats
    if "deliverable" in options:
        body["deliverables"] = [_deliverable(each) for each in options["deliverable"]]
    if "hitl" in options:
        body["hitl"] = {name: True for each in options["hitl"] for name in _checkpoints(each)}
    for name, value in options.get("set", {}).items():
        if name in OURS:
            raise ValueError(f"`{name}` is set by resultsink: leave it out")
        if name in body:
            raise ValueError(f"`{name}` is given twice: by its own option and by --set")
        body[name] = value
    return body


def _checkpoints(given: str) -> tuple[str, ...]:
    return CHECKPOINTS if given == "all" else (given,)


def _deliverable(given: str) -> object:
    """Read `xlsx`, `xlsx:A description`, a JSON object, or a request in plain words."""
    if given.lstrip().startswith("{"):
        try:
            return json.loads(given)
        except ValueError as error:
            raise ValueError(f"the deliverable {given!r} is no JSON: {error}") from None
    before, _, after = given.partition(":")
    kind, description = before.strip().lower(), after.strip()
    if kind in FILE_TYPES:
        return {"type": kind, "description": description or "The results of this research"}
    looks_like_a_type = len(before.split()) < 2 and not after.startswith(" ")
    if not looks_like_a_type:
        return given
    raise ValueError(
        f"the deliverable {given!r} is not one of {', '.join(FILE_TYPES)}: write TYPE, "
        "TYPE:DESCRIPTION, a sentence, or a JSON object"
    )
