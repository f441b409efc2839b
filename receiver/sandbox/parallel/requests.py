"""Bodies and queries of requests to Parallel's v1, with their limits."""

import json
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from starlette.requests import Request

from receiver.sandbox.addresses import WebhookUrl
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Switches, first_fault

RunStatus = Literal[
    "queued", "action_required", "running", "completed", "failed", "cancelling", "cancelled"
]
STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
Metadata = dict[str, str | bool | int | float]

MOST_INPUTS = 1000
WEBHOOK_BETA = "webhook-2025-08-12"
_MOST_SPEC = 15_000
_MOST_TEXT = 25_000
_PROCESSOR = re.compile(r"(lite|base|core|pro|ultra)([248]x)?(-fast)?")


class TextSchema(BaseModel):
    """A text, with its description; a bare string means the same."""

    type: Literal["text"] = "text"
    description: str | None = None


class JsonSchema(BaseModel):
    """An object that fits a JSON Schema."""

    type: Literal["json"] = "json"
    json_schema: dict[str, Any]


class AutoSchema(BaseModel):
    """A form that the processor chooses, as it does without a spec."""

    type: Literal["auto"]


class TaskSpec(BaseModel):
    """Form of the output of a run, and of its input."""

    output_schema: JsonSchema | AutoSchema | TextSchema | str = Field(union_mode="left_to_right")
    input_schema: JsonSchema | TextSchema | str | None = Field(
        default=None, union_mode="left_to_right"
    )

    @model_validator(mode="after")
    def _is_short(self) -> "TaskSpec":
        if len(self.model_dump_json()) > _MOST_SPEC:
            raise ValueError(f"the task spec exceeds {_MOST_SPEC:,} characters")
        return self


class RunWebhook(BaseModel):
    """URL at which a run is announced; unknown event types are ignored."""

    url: WebhookUrl
    event_types: list[str] = []


class SourcePolicy(BaseModel, extra="allow"):
    """Domains that a run may and may not read."""

    include_domains: list[str] = []
    exclude_domains: list[str] = []

    @model_validator(mode="after")
    def _is_short(self) -> "SourcePolicy":
        if len(self.include_domains) + len(self.exclude_domains) > 200:
            raise ValueError("at most 200 domains")
        return self


class CreateParallelRun(BaseModel):
    """POST /tasks/runs, and each input of POST /tasks/groups/{id}/runs."""

    input: str | dict[str, Any]
    processor: str
    task_spec: TaskSpec | None = None
    metadata: Metadata | None = None
    webhook: RunWebhook | None = None
    source_policy: SourcePolicy | None = None
    memory_scope_key: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,128}$")

    @model_validator(mode="after")
    def _is_short(self) -> "CreateParallelRun":
        spec = self.task_spec.model_dump_json() if self.task_spec else ""
        if len(self.text) + len(spec) > _MOST_TEXT:
            raise ValueError(f"input and task spec exceed {_MOST_TEXT:,} characters")
        return self

    @property
    def text(self) -> str:
        """The input as text, which can contain markers, and from which outputs are made."""
        if isinstance(self.input, str):
            return self.input
        return json.dumps(self.input, ensure_ascii=False)


def _not_too_many(inputs: list[Any]) -> list[Any]:
    """Refuse too many inputs before each of them is read, which takes long."""
    if len(inputs) > MOST_INPUTS:
        raise ValueError(f"at most {MOST_INPUTS:,} inputs in one request")
    return inputs


class AddRuns(BaseModel):
    """POST /tasks/groups/{id}/runs; the endpoint reads each input, and keeps it unchanged."""

    inputs: Annotated[list[dict[str, Any]], Field(min_length=1), AfterValidator(_not_too_many)]
    default_task_spec: TaskSpec | None = None


class AddRunsQuery(BaseModel):
    """Query of POST /tasks/groups/{id}/runs."""

    refresh_status: bool = True


class CreateGroup(BaseModel):
    """POST /tasks/groups."""

    metadata: Metadata | None = None


class RunQuery(BaseModel):
    """GET /tasks/runs/{id}/result."""

    timeout: Annotated[int, Field(ge=0)] = 600


class RunsQuery(BaseModel):
    """GET /tasks/groups/{id}/runs."""

    include_input: bool = False
    include_output: bool = False
    status: RunStatus | None = None
    last_event_id: str | None = None


class EventsQuery(BaseModel):
    """GET /tasks/groups/{id}/events."""

    last_event_id: str | None = None
    timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600.0


Body = TypeVar("Body", bound=BaseModel)


def read(model: type[Body], values: Any) -> Body:
    """Read a body or query; what is wrong first is a 422."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = first_fault(error)
        raise Refusal(422, f"Invalid request: {fault}", detail={"errors": [fault]}) from error


def read_query(model: type[Body], request: Request) -> Body:
    """Read the query of a request; the last value of a name counts."""
    return read(model, dict(request.query_params))


async def json_of(request: Request) -> Any:
    """Return the request's JSON; anything else is a 422."""
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise Refusal(422, "The body is not JSON") from error


def check_run(wanted: CreateParallelRun, request: Request, switches: Switches) -> None:
    """Refuse an unknown processor with a 403, and what the switches forbid with a 422."""
    if not _PROCESSOR.fullmatch(wanted.processor):
        raise Refusal(403, f"Invalid processor: {wanted.processor}")
    betas = [each.strip() for each in request.headers.get("parallel-beta", "").split(",")]
    if wanted.webhook and switches.parallel_webhook_beta and WEBHOOK_BETA not in betas:
        raise Refusal(422, f"webhook needs the header parallel-beta: {WEBHOOK_BETA}")
    check_metadata(wanted.metadata, switches)


def check_metadata(metadata: Metadata | None, switches: Switches) -> None:
    """Refuse long metadata with a 422 if the switches say so."""
    if switches.parallel_metadata_limits:
        for key, value in (metadata or {}).items():
            if len(key) > 16 or len(str(value)) > 512:
                raise Refusal(422, "metadata: keys take 16 characters and values 512")
