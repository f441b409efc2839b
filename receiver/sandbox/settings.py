"""What switches are made of: their base, their kinds of values, and how they are read."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class SandboxError(ValueError):
    """Was asked for something the sandbox does not do; the text says what to do instead."""


def _as_span(value: Any) -> Any:
    """Lets a single number (outside Python's types) stand for a span that begins and ends there."""
    return (value, value) if isinstance(value, int | float) else value


Seconds = Annotated[float, Field(ge=0)]
Span = Annotated[tuple[Seconds, Seconds], BeforeValidator(_as_span)]
Forgery = Literal["wrong_key", "tampered", "unsigned"]


class Settings(BaseModel):
    """Refuses names it does not know: a misspelt switch must not pass for a switch that is off."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


Model = TypeVar("Model", bound=Settings)


def parse(model: type[Model], values: Any) -> Model:
    """Makes switches or a fault from outside values; raises SandboxError in one sentence."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SandboxError(first_fault(error)) from error


def first_fault(error: ValidationError) -> str:
    """What is wrong first, and where, in one line."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else detail["msg"]
