"""Models whose fields stand beside the sentences that refuse a wrong value (pydantic)."""

from collections.abc import Mapping, Sized
from typing import Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

TYPES = {
    "string_type": "text",
    "list_type": "a JSON list",
    "dict_type": "a JSON object",
    "model_type": "a JSON object",
    "int_type": "a whole number",
}

S = TypeVar("S", bound=Sized | None)


class Strict(BaseModel):
    """A model that converts nothing, lets further fields pass, and is built at its first use."""

    model_config = ConfigDict(strict=True, defer_build=True)


def _sentence(error: ValidationError, otherwise: str | None = None) -> str:
    """Return the first sentence of our own, or `otherwise`, or one for the first error's type."""
    errors = error.errors(include_url=False)
    for each in errors:
        if each["type"] == "value_error":
            return str(each["ctx"]["error"])
    if otherwise is not None:
        return otherwise
    first = errors[0]
    field, context = first["loc"][0], first.get("ctx", {})
    if first["type"] == "too_long":
        return f"{context['actual_length']} {field} are given; {context['max_length']} are allowed"
    return f"`{field}` must be {TYPES[first['type']]}"


def or_say(sentence: str) -> WrapValidator:
    """Refuse a value of another type with `sentence`, in which {!r} is the value."""

    def validate(value: object, validated: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validated(value)
        except ValidationError as error:
            raise ValueError(_sentence(error, sentence.format(value))) from None

    return WrapValidator(validate)


def at_most(most: int, sentence: str) -> AfterValidator:
    """Refuse a longer value with `sentence`, in which {} is its length."""

    def validate(value: S) -> S:
        if value is not None and len(value) > most:
            raise ValueError(sentence.format(len(value)))
        return value

    return AfterValidator(validate)


def check(model: type[Strict], body: Mapping[str, object]) -> None:
    """Raise ValueError, one sentence, for a body that the model refuses."""
    try:
        model.model_validate(body)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None
