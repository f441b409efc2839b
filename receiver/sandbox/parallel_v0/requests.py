"""Bodies of requests to v0; contracts/parallel.md, sections 1.1 and 1.4."""

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.requests import Request

from receiver.sandbox import content
from receiver.sandbox.addresses import WebhookUrl
from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import first_fault

Arguments = dict[str, Any]


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name!r} is not the name of a header")
        if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
            raise ValueError(f"the value of {name} must be printable ASCII")
    return headers


def _output_schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        content.matching(schema, seed=0, query="")
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError("is no JSON schema that the sandbox can fill") from error
    return schema


class InputSchema(BaseModel):
    """Part of a JSON schema that the sandbox checks."""

    required: list[str] = []


class V0Callback(BaseModel):
    """The callback_webhook of one run."""

    url: WebhookUrl
    secret: str | None = Field(default=None, min_length=1)
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}


class CreateV0Task(BaseModel):
    """POST /tasks: a prompt that contains `${argument}`, and the schemas of input and output."""

    name: str | None = None
    prompt: str = Field(min_length=1)
    input_schema: InputSchema = InputSchema()
    output_schema: Annotated[dict[str, Any], AfterValidator(_output_schema)] = {}
    processor: str | None = None


class CreateV0Run(BaseModel):
    """POST /tasks/{task_id}/runners/{runner}/runs."""

    arguments: Arguments = {}
    enqueue_run: bool = False
    callback_webhook: V0Callback | None = None


class RunRequest(BaseModel):
    """One run of a batch; its own runner comes before that of the batch."""

    arguments: Arguments = {}
    runner: str | None = None
    callback_webhook: V0Callback | None = None


class CreateV0Batch(BaseModel):
    """POST /tasks/{task_id}/batches."""

    task_run_requests: list[RunRequest] = Field(min_length=1)
    runner: str | None = None


Body = TypeVar("Body", bound=BaseModel)


async def read(model: type[Body], request: Request) -> Body:
    """Read the body of a request; what is wrong first is a 422."""
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise Refusal(422, first_fault(error)) from error
