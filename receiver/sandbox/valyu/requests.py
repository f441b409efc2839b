"""Bodies and queries of requests to Valyu, with the limits that the contract names."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from starlette.requests import Request

from receiver.sandbox.addresses import WebhookUrl
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import first_fault

Metadata = dict[str, Any]
OutputFormat = Literal["markdown", "pdf", "toon"] | dict[str, Any]


def _formats(formats: list[OutputFormat]) -> list[OutputFormat]:
    schemas = [each for each in formats if isinstance(each, dict)]
    if len(schemas) > 1:
        raise ValueError("only one JSON schema is possible")
    if schemas and ("markdown" in formats or "pdf" in formats):
        raise ValueError("a JSON schema cannot be mixed with markdown or pdf")
    if "toon" in formats and not schemas:
        raise ValueError("toon needs a JSON schema")
    return formats


OutputFormats = Annotated[list[OutputFormat], AfterValidator(_formats)]


class Search(BaseModel, extra="allow"):
    """Search options; those without rules are returned unchanged."""

    included_sources: list[str] = Field(default=[], max_length=20)
    excluded_sources: list[str] = Field(default=[], max_length=20)
    start_date: str | None = None
    end_date: str | None = None
    historical_cache: bool | None = None

    @model_validator(mode="after")
    def _rules(self) -> "Search":
        if self.included_sources and self.excluded_sources:
            raise ValueError("use included_sources or excluded_sources, not both")
        timed = any(len(date) > 10 for date in (self.start_date, self.end_date) if date)
        if timed and not self.historical_cache:
            raise ValueError("a date with a time of day needs historical_cache")
        return self


def _renamed(body: Any, names: dict[str, str]) -> Any:
    """Copy a field from its deprecated name if the request has only that."""
    if not isinstance(body, dict):
        return body
    old = {new: body[name] for name, new in names.items() if name in body}
    return old | {name: value for name, value in body.items() if value is not None}


class _ResearchSettings(BaseModel):
    """Settings of a batch or of a single task."""

    output_formats: OutputFormats = ["markdown"]
    search: Search | None = None
    webhook_url: WebhookUrl | None = None
    brand_collection_id: str | None = None
    metadata: Metadata | None = None

    @property
    def search_params(self) -> dict[str, Any] | None:
        """The search options of the request, under the name that answers use."""
        return None if self.search is None else self.search.model_dump(exclude_unset=True)


class CreateValyuBatch(_ResearchSettings):
    """POST /deepresearch/batches: every field is optional."""

    name: str | None = None
    mode: Literal["fast", "standard", "heavy", "max", "lite"] = "standard"

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, body: Any) -> Any:
        return _renamed(body, {"model": "mode"})


class _Question(BaseModel):
    query: str = Field(min_length=1, max_length=25_000)
    research_strategy: str | None = None
    report_format: str | None = None
    urls: list[str] = Field(default=[], max_length=10)

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, body: Any) -> Any:
        old = {"input": "query", "model": "mode", "strategy": "research_strategy"}
        return _renamed(body, old)

    @model_validator(mode="after")
    def _guidance_is_short(self) -> "_Question":
        if len(self.research_strategy or "") + len(self.report_format or "") > 15_000:
            raise ValueError("research_strategy and report_format exceed 15,000 characters")
        return self


class BatchTask(_Question):
    """One task of POST /deepresearch/batches/{id}/tasks."""

    id: str | None = None
    metadata: Metadata | None = None


class AddTasks(BaseModel):
    """POST /deepresearch/batches/{id}/tasks."""

    tasks: list[BatchTask] = Field(min_length=1, max_length=100)


class Deliverable(BaseModel):
    """A file to be made beside the report."""

    type: Literal["csv", "xlsx", "pptx", "docx", "pdf"]
    description: str = Field(max_length=500)


class Hitl(BaseModel, extra="forbid"):
    """Checkpoints at which a task asks a person, in their order."""

    planning_questions: bool = False
    plan_review: bool = False
    source_review: bool = False
    outline_review: bool = False

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that are on."""
        return [name for name in type(self).model_fields if getattr(self, name)]


class CreateValyuTask(_Question, _ResearchSettings):
    """POST /deepresearch/tasks; the query of a workflow is made from its id."""

    mode: Literal["instant", "fast", "standard", "heavy", "max", "lite"] = "standard"
    files: list[Any] = Field(default=[], max_length=10)
    deliverables: list[Annotated[str, Field(max_length=2000)] | Deliverable] = Field(
        default=[], max_length=10
    )
    mcp_servers: list[Any] = Field(default=[], max_length=5)
    tools: dict[str, Any] | None = None
    previous_reports: list[str] = Field(default=[], max_length=3)
    hitl: Hitl = Hitl()
    workflow_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _template(cls, body: Any) -> Any:
        if not isinstance(body, dict) or not body.get("workflow_id"):
            return body
        for name in ("query", "input", "research_strategy", "strategy", "report_format"):
            if body.get(name):
                raise ValueError(f"workflow_id excludes {name}")
        return body | {"query": f"Workflow {body['workflow_id']}"}

    @model_validator(mode="after")
    def _instant_asks_nobody(self) -> "CreateValyuTask":
        if self.mode == "instant" and self.hitl.checkpoints:
            raise ValueError("hitl is not available in instant mode")
        return self


class CreateContents(BaseModel):
    """POST /contents; `webhook_url` has an effect only with `async`."""

    urls: list[str] = Field(min_length=1, max_length=50)
    run_async: bool = Field(default=False, alias="async")
    webhook_url: WebhookUrl | None = None

    @model_validator(mode="after")
    def _many_are_async(self) -> "CreateContents":
        if len(self.urls) > 10 and not self.run_async:
            raise ValueError("more than 10 URLs need async: true")
        return self


Body = TypeVar("Body", bound=BaseModel)


def read(model: type[Body], body: dict[str, Any]) -> Body:
    """Read a body; what is wrong first is a 400."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Refusal(400, f"Invalid request parameters: {first_fault(error)}") from error


def limit_of(request: Request, *, most: int | None = None) -> int | None:
    """Return the limit in the query, if there is one; a limit without sense is a 400."""
    text = request.query_params.get("limit")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise Refusal(400, "limit must be a whole number of at least 1")
    if most is not None and int(text) > most:
        raise Refusal(400, f"limit must be at most {most}")
    return int(text)


def origin_of(request: Request) -> str:
    """Return the scheme, host and port of the request, with which URLs in results begin."""
    return str(request.base_url).rstrip("/").removesuffix("/v1")
