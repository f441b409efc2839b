"""One request of a program, read strictly: what is not understood is refused, by its name."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request whose token is valid for it, with the parameters in its path."""

    request: Request
    desk: ApiContext
    token: TokenView
    params: Mapping[str, str]

    def source(self, asked_for: str | None) -> str | None:
        """The source that this is about, None for all; raises Problem for another's."""
        return source_of(self.token, asked_for)

    def query(self, *known: str) -> dict[str, str]:
        """The query's parameters, each once and with a value; raises Problem."""
        found: dict[str, str] = {}
        for name, value in self.request.query_params.multi_items():
            if name not in known:
                raise Problem(400, _unknown("parameter", name, known))
            if name in found or not value:
                raise Problem(400, f"Give the parameter {name} once, with a value.")
            found[name] = value
        return found

    async def fields(self, *required: str, optional: Collection[str] = ()) -> dict[str, str | None]:
        """The body's fields, all of them text, None where one is missing; raises Problem."""
        given = _object(await self._body())
        known = (*required, *optional)
        for name, value in given.items():
            if name not in known:
                raise Problem(422, _unknown("field", name, known))
            if value is not None and not isinstance(value, str):
                raise Problem(422, f"The field {name} is no text: put it in quotes.")
            if value is not None and name != "secret" and word(value) is None:
                raise Problem(
                    422, f"The field {name} must be 1 to 200 printable ASCII characters, no spaces."
                )
        for name in required:
            if given.get(name) is None:
                raise Problem(422, f"The field {name} is missing: send it.")
        return {name: given.get(name) for name in known}

    async def _body(self) -> bytes:
        headers = self.request.headers
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Problem(415, "Send the body as it is, without Content-Encoding.", headers=CLOSE)
        length = headers.get("content-length", "")
        declared = int(length[:18]) if length.isascii() and length.isdigit() else None
        try:
            body = await self.desk.bodies.read(
                self.request.receive, limit=MAX_BODY_BYTES, declared=declared
            )
        except BodyRefused as refusal:
            status, sentence = _REFUSED[str(refusal)]
            more = RETRY_AFTER if status == 503 else {}
            raise Problem(status, sentence, headers={**CLOSE, **more}) from None
        except ClientGone:
            raise Problem(400, "The body is not complete: send it again.", headers=CLOSE) from None
        self.desk.bodies.release(body)
        return body


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:  # the sentences of json repeat nothing of it
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
    """A name that came from outside, bounded and harmless."""
    return ascii(name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}...")
