"""What Valyu's create call for a single task would refuse, said in one sentence beforehand.

The limits are those of the fact sheet of this project's contracts, section 1.3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MODES = ("instant", "fast", "standard", "heavy", "max")
FORMATS = ("markdown", "pdf", "toon")
FILE_TYPES = ("csv", "xlsx", "pptx", "docx", "pdf")
CHECKPOINTS = ("planning_questions", "plan_review", "source_review", "outline_review")

MAX_QUERY = 25_000
MAX_GUIDANCE = 15_000
MAX_CONTEXT, MAX_CONTEXTS = 50_000, 100_000
MAX_REQUEST, MAX_DESCRIPTION = 2_000, 500
MAX_SOURCES = 20
MOST = {"urls": 10, "files": 10, "deliverables": 10, "mcp_servers": 5, "previous_reports": 3}

TEMPLATED = ("query", "research_strategy", "report_format")
"""What a workflow's template supplies."""


def check(body: Mapping[str, Any]) -> None:
    """Raise ValueError, one sentence, for the first thing that the sender would refuse."""
    for each in _CHECKS:
        each(body)


_TYPES: Mapping[str, tuple[type, str]] = {
    "query": (str, "text"),
    "mode": (str, "text"),
    "output_formats": (list, "a JSON list"),
    "research_strategy": (str, "text"),
    "report_format": (str, "text"),
    "search": (dict, "a JSON object"),
    "urls": (list, "a JSON list"),
    "files": (list, "a JSON list"),
    "deliverables": (list, "a JSON list"),
    "mcp_servers": (list, "a JSON list"),
    "tools": (dict, "a JSON object"),
    "previous_reports": (list, "a JSON list"),
    "brand_collection_id": (str, "text"),
    "metadata": (dict, "a JSON object"),
    "hitl": (dict, "a JSON object"),
    "workflow_id": (str, "text"),
    "workflow_params": (dict, "a JSON object"),
    "workflow_version": (int, "a whole number"),
}


def _check_types(body: Mapping[str, Any]) -> None:
    for name, (kind, words) in _TYPES.items():
        value = body.get(name)
        if name in body and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"`{name}` must be {words}")


def _check_lengths(body: Mapping[str, Any]) -> None:
    for name, most in MOST.items():
        if len(body.get(name, ())) > most:
            raise ValueError(f"{len(body[name])} {name} are given; {most} are allowed")


def _check_question(body: Mapping[str, Any]) -> None:
    if "workflow_id" in body:
        given = [name for name in TEMPLATED if name in body]
        if given:
            raise ValueError(f"a workflow supplies `{given[0]}` itself: leave it out")
    elif not body.get("query", "").strip():
        raise ValueError("the query is missing or empty: give --query, or --workflow")
    for name in ("workflow_params", "workflow_version"):
        if name in body and "workflow_id" not in body:
            raise ValueError(f"`{name}` needs a workflow: give --workflow")
    if len(body.get("query", "")) > MAX_QUERY:
        raise ValueError(f"the query has {len(body['query'])} characters; {MAX_QUERY} are allowed")
    length = sum(len(body.get(name, "")) for name in ("research_strategy", "report_format"))
    if length > MAX_GUIDANCE:
        raise ValueError(
            f"the strategy and the report format have {length} characters together; "
            f"{MAX_GUIDANCE} are allowed"
        )


def _check_mode(body: Mapping[str, Any]) -> None:
    mode = body.get("mode")
    if mode is not None and mode not in MODES:
        raise ValueError(f"the mode {mode!r} is not one of {', '.join(MODES)}")
    asks = body.get("hitl", {})
    for name, value in asks.items():
        if name not in CHECKPOINTS:
            raise ValueError(f"the checkpoint {name!r} is not one of {', '.join(CHECKPOINTS)}")
        if not isinstance(value, bool):
            raise ValueError(f"the checkpoint {name!r} must be true or false")
    if mode == "instant" and any(asks.values()):
        raise ValueError("the mode instant asks nobody: choose another one, or leave --hitl out")


def _check_formats(body: Mapping[str, Any]) -> None:
    formats = body.get("output_formats", [])
    for each in formats:
        if not isinstance(each, dict) and each not in FORMATS:
            raise ValueError(f"the format {each!r} is not one of {', '.join(FORMATS)}")
    schemas = sum(isinstance(each, dict) for each in formats)
    if schemas > 1:
        raise ValueError("more than one JSON schema is given; one is allowed")
    if schemas and ("markdown" in formats or "pdf" in formats):
        raise ValueError("a JSON schema cannot be mixed with markdown or pdf: choose one of them")
    if "toon" in formats and not schemas:
        raise ValueError("the format toon needs a JSON schema: give --output-schema")


def _check_search(body: Mapping[str, Any]) -> None:
    search = body.get("search", {})
    listed = {name: search.get(name) for name in ("included_sources", "excluded_sources")}
    for name, sources in listed.items():
        if sources is not None and not isinstance(sources, list):
            raise ValueError(f"`{name}` of the search must be a JSON list")
        if len(sources or ()) > MAX_SOURCES:
            raise ValueError(f"`{name}` of the search has more than {MAX_SOURCES} entries")
    if all(listed.values()):
        raise ValueError("the search has both included_sources and excluded_sources: keep one")
    dates = [search.get(name) for name in ("start_date", "end_date")]
    if any(len(str(date)) > len("2026-01-31") for date in dates if date) and (
        search.get("historical_cache") is not True
    ):
        raise ValueError("a date with a time of day needs historical_cache: true in the search")


def _check_files(body: Mapping[str, Any]) -> None:
    contexts = []
    for file in body.get("files", ()):
        if not isinstance(file, dict) or not all(
            isinstance(file.get(name), str) for name in ("data", "filename", "mediaType")
        ):
            raise ValueError("each of the files must have a filename, a mediaType and data")
        contexts.append(len(file.get("context") or ""))
        if contexts[-1] > MAX_CONTEXT:
            raise ValueError(
                f"the context of {file['filename']} has {contexts[-1]} characters; {MAX_CONTEXT} "
                "are allowed"
            )
    if sum(contexts) > MAX_CONTEXTS:
        raise ValueError(
            f"the contexts of the files have {sum(contexts)} characters together; {MAX_CONTEXTS} "
            "are allowed"
        )


def _check_deliverables(body: Mapping[str, Any]) -> None:
    for each in body.get("deliverables", ()):
        if isinstance(each, str):
            if len(each) > MAX_REQUEST:
                raise ValueError(f"a deliverable has more than {MAX_REQUEST} characters")
            continue
        if not isinstance(each, dict) or each.get("type") not in FILE_TYPES:
            raise ValueError(f"a deliverable must have a type: {', '.join(FILE_TYPES)}")
        description = each.get("description")
        if not isinstance(description, str) or not description.strip():
            raise ValueError("a deliverable must have a description")
        if len(description) > MAX_DESCRIPTION:
            raise ValueError(
                f"the description of a deliverable has more than {MAX_DESCRIPTION} characters"
            )


def _check_rest(body: Mapping[str, Any]) -> None:
    for name in ("urls", "previous_reports"):
        if not all(isinstance(each, str) and each for each in body.get(name, ())):
            raise ValueError(f"each of the {name} must be text")
    for each in body.get("mcp_servers", ()):
        if not isinstance(each, dict) or not isinstance(each.get("url"), str):
            raise ValueError("each of the mcp_servers must be a JSON object with a url")
    for name, tool in body.get("tools", {}).items():
        if not isinstance(tool, bool | dict):
            raise ValueError(f"the tool {name!r} must be true, false or a JSON object")
    email = body.get("alert_email")
    if isinstance(email, dict):
        if not isinstance(email.get("email"), str):
            raise ValueError("`alert_email` must have an email")
        if "{id}" not in str(email.get("custom_url", "{id}")):
            raise ValueError("the custom_url of `alert_email` must contain {id}")
    elif email is not None and not (isinstance(email, str) and "@" in email):
        raise ValueError("`alert_email` must be an address or a JSON object")


_CHECKS: Sequence[Callable[[Mapping[str, Any]], None]] = (
    _check_types,
    _check_lengths,
    _check_question,
    _check_mode,
    _check_formats,
    _check_search,
    _check_files,
    _check_deliverables,
    _check_rest,
)
