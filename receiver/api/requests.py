"""One request of a program, read strictly: anything unknown is refused by its name."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from receiver.api.access import source_of
from receiver.api.context import ApiContext
from receiver.api.responses import CLOSE, RETRY_AFTER, Problem
from receiver.intake.request_body import BodyRefused, ClientGone
from receiver.json_values import word
from storage import TokenView

MAX_BODY_BYTES = 64 * 1024
MAX_SHOWN = 50

_REFUSED = {
    "too large": (413, f"The body is larger than {MAX_BODY_BYTES} bytes: send less."),
    "timeout": (408, "The body was not complete in time: send it again."),
    "overloaded": (503, "Too many bodies are being received: try again in 5 seconds."),
}


def _checked_word(text: str) -> str:
    if word(text) is None:
        raise ValueError("must be 1 to 200 printable ASCII characters, no spaces")
    return text


Word = Annotated[str, AfterValidator(_checked_word)]
"""A name or an id, as it may stand in a URL and in a log."""


class Body(BaseModel):
    """Base of the bodies that programs send: fields of text. `ApiRequest.body` refuses others."""

    model_config = ConfigDict(strict=True, frozen=True)


AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request whose token is valid for it, with the parameters in its path.

    given: its body, where that was read before. reserved: the id for what it makes, where it may be
    a repetition.
    """

    request: Request
    context: ApiContext
    token: TokenView
    params: Mapping[str, str]
    given: bytes | None = None
    reserved: str | None = None

    def source(self, wanted: str | None) -> str | None:
        """Return the source that the request is about, None for all; Problem for another's."""
        return source_of(self.token, wanted)

    def query(self, *known: str) -> dict[str, str]:
        """Return the query's parameters, each once and with a value; raises Problem."""
        found: dict[str, str] = {}
        for name, value in self.request.query_params.multi_items():
            if name not in known:
                raise Problem(400, _unknown("parameter", name, known))
            if name in found or not value:
                raise Problem(400, f"Give the parameter {name} once, with a value.")
            found[name] = value
        return found

    async def body(self, model: type[AnyBody]) -> AnyBody:
        """Return the body's fields; raises Problem for the first that is wrong."""
        given = _object(await self.read() if self.given is None else self.given)
        for name in given:
            if name not in model.model_fields:
                raise Problem(422, _unknown("field", name, model.model_fields))
        try:
            return model.model_validate(given)
        except ValidationError as error:
            raise Problem(422, _sentence(error, given)) from None

    async def read(self) -> bytes:
        """Return the body as it was sent; raises Problem."""
        headers = self.request.headers
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Problem(415, "Send the body as it is, without Content-Encoding.", headers=CLOSE)
        length = headers.get("content-length", "")
        declared = int(length[:18]) if length.isascii() and length.isdigit() else None
        bodies = self.context.bodies
        try:
            body = await bodies.read(self.request.receive, limit=MAX_BODY_BYTES, declared=declared)
        except BodyRefused as refusal:
            status, sentence = _REFUSED[str(refusal)]
            more = RETRY_AFTER if status == 503 else {}
            raise Problem(status, sentence, headers={**CLOSE, **more}) from None
        except ClientGone:
            raise Problem(400, "The body is not complete: send it again.", headers=CLOSE) from None
        bodies.release(body)
        return body


def _sentence(error: ValidationError, given: Mapping[str, Any]) -> str:
    """Return a sentence for the first error; it repeats no value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])
    if given.get(name) is None:  # a null is as good as nothing
        return f"The field {name} is missing: send it."
    if first["type"] == "value_error":
        return f"The field {name} {first['msg'].removeprefix('Value error, ')}."
    return f"The field {name} is no text: put it in quotes."


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:  # json's own messages repeat nothing of the body
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "not readable"
        raise Problem(400, f"The body is no JSON ({reason}): send one JSON object.") from None
    if not isinstance(value, dict):
        raise Problem(400, "The body is JSON, but no object: send one JSON object.")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise Problem(400, f"The field {_shown(name)} stands twice: send it once.")
        read[name] = value
    return read


def _no_constant(name: str) -> Any:
    raise Problem(400, f"The body holds {name}, which is no JSON: leave it out.")


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    there = ", ".join(known) or "none"
    return f"There is no {what} {_shown(name)} here: leave it out ({what}s: {there})."


def _shown(name: str) -> str:
    """Return a name from outside, bounded and as ASCII."""
    return ascii(name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}...")
