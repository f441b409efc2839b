"""Limits of Valyu's create call for a single task, checked before anything is created.

They are those of the fact sheet of this project's contracts, section 1.3. Each stands beside the
sentence that refuses what is beyond it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from receiver.providers import sentences
from receiver.providers.sentences import Strict, at_most, or_say

Format = Literal["markdown", "pdf", "toon"]
FileType = Literal["csv", "xlsx", "pptx", "docx", "pdf"]
MODES = ("instant", "fast", "standard", "heavy", "max")
FILE_TYPES: tuple[str, ...] = get_args(FileType)
CHECKPOINTS = ("planning_questions", "plan_review", "source_review", "outline_review")

MAX_QUERY = 25_000
MAX_GUIDANCE = 15_000
MAX_CONTEXT, MAX_CONTEXTS = 50_000, 100_000

NO_TYPE = f"a deliverable must have a type: {', '.join(FILE_TYPES)}"

TEMPLATED = ("query", "research_strategy", "report_format")
"""Fields that a workflow's template supplies."""


def check(body: Mapping[str, object]) -> None:
    """Raise ValueError, one sentence, for a body that the sender would refuse."""
    sentences.check(_TaskBody, body)


class _SearchOptions(Strict):
    included_sources: Annotated[
        list[object] | None,
        or_say("`included_sources` of the search must be a JSON list"),
        at_most(20, "`included_sources` of the search has more than 20 entries"),
    ] = None
    excluded_sources: Annotated[
        list[object] | None,
        or_say("`excluded_sources` of the search must be a JSON list"),
        at_most(20, "`excluded_sources` of the search has more than 20 entries"),
    ] = None
    start_date: object = None
    end_date: object = None
    historical_cache: object = None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.included_sources and self.excluded_sources:
            raise ValueError("the search has both included_sources and excluded_sources: keep one")
        dates = [str(date) for date in (self.start_date, self.end_date) if date]
        has_times = any(len(date) > len("2026-01-31") for date in dates)
        if has_times and self.historical_cache is not True:
            raise ValueError("a date with a time of day needs historical_cache: true in the search")
        return self


class _AttachedFile(Strict):
    filename: str
    mediaType: str  # the sender's spelling
    data: str
    context: Annotated[str | None, or_say("the context of a file must be text")] = None

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        length = len(self.context or "")
        if length > MAX_CONTEXT:
            raise ValueError(
                f"the context of {self.filename} has {length} characters; {MAX_CONTEXT} are allowed"
            )
        return self


class _DeliverableFile(Strict):
    type: Annotated[FileType, or_say(NO_TYPE)] = Field(default=None, validate_default=True)
    description: Annotated[
        str,
        Field(pattern=r"\S"),
        or_say("a deliverable must have a description"),
        at_most(500, "the description of a deliverable has more than 500 characters"),
    ] = Field(default="", validate_default=True)


class _McpServer(Strict):
    url: str


_OutputFormat = Annotated[
    Format | dict[str, object],
    or_say(f"the format {{!r}} is not one of {', '.join(get_args(Format))}"),
]
_NonEmpty = Annotated[str, Field(min_length=1)]
_Url = Annotated[_NonEmpty, or_say("each of the urls must be text")]
_Report = Annotated[_NonEmpty, or_say("each of the previous_reports must be text")]
_File = Annotated[
    _AttachedFile, or_say("each of the files must have a filename, a mediaType and data")
]
_Server = Annotated[_McpServer, or_say("each of the mcp_servers must be a JSON object with a url")]
_Request = Annotated[str, at_most(2_000, "a deliverable has more than 2000 characters")]
_Deliverable = Annotated[_Request | _DeliverableFile, or_say(NO_TYPE)]


class _TaskBody(Strict):
    """The body of the call."""

    query: Annotated[
        str, at_most(MAX_QUERY, f"the query has {{}} characters; {MAX_QUERY} are allowed")
    ] = ""
    mode: str = "standard"
    output_formats: list[_OutputFormat] = Field([])
    research_strategy: str = ""
    report_format: str = ""
    search: _SearchOptions = Field(default_factory=_SearchOptions)
    urls: list[_Url] = Field([], max_length=10)
    files: list[_File] = Field([], max_length=10)
    deliverables: list[_Deliverable] = Field([], max_length=10)
    mcp_servers: list[_Server] = Field([], max_length=5)
    tools: dict[str, object] = Field({})
    previous_reports: list[_Report] = Field([], max_length=3)
    brand_collection_id: str = ""
    metadata: dict[str, object] = Field({})
    hitl: dict[str, object] = Field({})
    alert_email: object = None
    workflow_id: str = ""
    workflow_params: dict[str, object] = Field({})
    workflow_version: int = 0

    @field_validator("mode")
    @classmethod
    def _is_a_mode(cls, mode: str) -> str:
        if mode not in MODES:
            raise ValueError(f"the mode {mode!r} is not one of {', '.join(MODES)}")
        return mode

    @field_validator("tools")
    @classmethod
    def _switches_tools(cls, tools: dict[str, object]) -> dict[str, object]:
        for name, tool in tools.items():
            if not isinstance(tool, bool | dict):
                raise ValueError(f"the tool {name!r} must be true, false or a JSON object")
        return tools

    @field_validator("hitl")
    @classmethod
    def _names_checkpoints(cls, hitl: dict[str, object]) -> dict[str, object]:
        for name, value in hitl.items():
            if name not in CHECKPOINTS:
                raise ValueError(f"the checkpoint {name!r} is not one of {', '.join(CHECKPOINTS)}")
            if not isinstance(value, bool):
                raise ValueError(f"the checkpoint {name!r} must be true or false")
        return hitl

    @field_validator("alert_email")
    @classmethod
    def _reaches_somebody(cls, alert: object) -> object:
        if isinstance(alert, dict):
            if not isinstance(alert.get("email"), str):
                raise ValueError("`alert_email` must have an email")
            if "{id}" not in str(alert.get("custom_url", "{id}")):
                raise ValueError("the custom_url of `alert_email` must contain {id}")
        elif alert is not None and not (isinstance(alert, str) and "@" in alert):
            raise ValueError("`alert_email` must be an address or a JSON object")
        return alert

    @model_validator(mode="before")
    @classmethod
    def _asks_something(cls, body: Mapping[str, object]) -> Mapping[str, object]:
        """Refuse a body without a question first: whatever else is wrong may come of that."""
        query = body.get("query", "")
        if "workflow_id" not in body and isinstance(query, str) and not query.strip():
            raise ValueError("the query is missing or empty: give --query, or --workflow")
        return body

    @model_validator(mode="after")
    def _asks_in_one_way(self) -> Self:
        given = self.model_fields_set
        if "workflow_id" in given:
            for name in TEMPLATED:
                if name in given:
                    raise ValueError(f"a workflow supplies `{name}` itself: leave it out")
            return self
        for name in ("workflow_params", "workflow_version"):
            if name in given:
                raise ValueError(f"`{name}` needs a workflow: give --workflow")
        return self

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        length = len(self.research_strategy) + len(self.report_format)
        if length > MAX_GUIDANCE:
            raise ValueError(
                f"the strategy and the report format have {length} characters together; "
                f"{MAX_GUIDANCE} are allowed"
            )
        length = sum(len(file.context or "") for file in self.files)
        if length > MAX_CONTEXTS:
            raise ValueError(
                f"the contexts of the files have {length} characters together; {MAX_CONTEXTS} "
                "are allowed"
            )
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.mode == "instant" and any(self.hitl.values()):
            raise ValueError(
                "the mode instant asks nobody: choose another one, or leave --hitl out"
            )
        schemas = sum(isinstance(each, dict) for each in self.output_formats)
        if schemas > 1:
            raise ValueError("more than one JSON schema is given; one is allowed")
        if schemas and ("markdown" in self.output_formats or "pdf" in self.output_formats):
            raise ValueError(
                "a JSON schema cannot be mixed with markdown or pdf: choose one of them"
            )
        if "toon" in self.output_formats and not schemas:
            raise ValueError("the format toon needs a JSON schema: give --output-schema")
        return self
