"""Parallel's single runs: creating them from the options of a user, and asking for their input."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from receiver.errors import Unavailable
from receiver.json_values import text, word
from receiver.providers.capabilities.runs import MarksRuns, TellsInputs
from receiver.providers.model import Callback, Created, NewRun, Request, Subject
from receiver.providers.parallel import reading
from receiver.providers.parallel.limits import check_input, checked
from receiver.providers.responses import part
from storage import FetchedRun

RUN_EVENT = "task_run.status"
RUN_OPTIONS = frozenset({"input", "runner", "output_schema", "metadata", "set"})
MARK = "resultsink"
"""The key of a run's metadata under which an id of ours travels."""

PROCESSORS = "lite, base, core, pro or ultra"


class ParallelRuns(MarksRuns, TellsInputs):
    """The part of the provider `parallel` that is about single runs."""

    def new_run(self, options: Mapping[str, Any]) -> NewRun:
        """Make a run of options; `set` holds fields without an option, such as source_policy."""
        for name in options:
            if name not in RUN_OPTIONS:
                raise ValueError(f"Parallel's runs take no --{name.replace('_', '-')}")
        if "runner" not in options:
            raise ValueError(f"the processor is missing: give --processor {PROCESSORS}")
        check_input(options.get("input"))
        body = {"processor": options["runner"], "input": options["input"]}
        if "metadata" in options:
            body["metadata"] = checked(options["metadata"])
        if "output_schema" in options:
            body["task_spec"] = task_spec(options["output_schema"])
        for name, value in options.get("set", {}).items():
            if name in body or name == "webhook":
                raise ValueError(f"`{name}` has an option of its own, or is ours: leave it out")
            body[name] = value
        return NewRun(body, reading.as_input(body["input"]) or {}, body["processor"])

    def create_run(self, new: NewRun, *, webhook_url: str | None) -> Request:
        callback = None if webhook_url is None else Callback(webhook_url, secret="")
        return Request("POST", "/v1/tasks/runs", json=with_webhook(new.body, callback))

    def read_created_run(self, data: object) -> Created:
        run_id = word(data.get("run_id")) if isinstance(data, dict) else None
        if run_id is None:
            raise Unavailable("the answer to the create call names no run")
        return Created(run_id)

    def marked_run(self, new: NewRun, mark: str) -> NewRun:
        return replace(new, body=with_mark(new.body, mark))

    def input(self, run: Subject) -> Request:
        return Request("GET", f"/v1/tasks/runs/{part(run.id)}/input")

    def read_input(self, data: object) -> dict[str, object] | None:
        return reading.as_input(data.get("input")) if isinstance(data, dict) else None


def with_webhook(body: Mapping[str, object], callback: Callback | None) -> Mapping[str, object]:
    """Return the body of a run that is announced at a callback."""
    if callback is None:
        return body
    return {**body, "webhook": {"url": callback.url, "event_types": [RUN_EVENT]}}


def with_mark(body: Mapping[str, Any], mark: str) -> Mapping[str, Any]:
    """Return the body of a run with our mark in its metadata; the user's own of that name stays."""
    return {**body, "metadata": {MARK: mark, **(body.get("metadata") or {})}}


def mark_of(run: FetchedRun) -> str | None:
    """Return our mark in the metadata of a run, or None."""
    shown = run.raw.get("run")
    metadata = shown.get("metadata") if isinstance(shown, dict) else None
    return text(metadata.get(MARK)) if isinstance(metadata, dict) else None


def task_spec(schema: object) -> Mapping[str, object]:
    """Return the part of a body that asks for JSON of a schema."""
    return {"output_schema": {"type": "json", "json_schema": schema}}
