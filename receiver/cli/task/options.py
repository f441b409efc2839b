"""The options of `task create` as a provider takes them: files read, JSON parsed.

If a value makes sense is for the provider to judge.
"""

import base64
import json
import mimetypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from receiver.errors import UsageError
from receiver.text_files import read_text

_OFFICE = "application/vnd.openxmlformats-officedocument"
TYPES = {
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".md": "text/markdown",
}
"""Media types that not every system knows."""

UNKNOWN_TYPE = "application/octet-stream"


def given(**options: object) -> dict[str, object]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def json_or_file(option: str, text: str | None) -> object:
    """Parse JSON, or the file of JSON that is named; raises UsageError."""
    if text is None:
        return None
    if text.lstrip()[:1] in ("{", "[", '"'):
        return _parsed(option, text)
    try:
        content = read_text(Path(text)).text
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None
    return _parsed(f"{option}: {text}", content)


def object_or_file(option: str, text: str | None) -> dict[str, object] | None:
    """Parse a JSON object, or the file of one that is named; raises UsageError."""
    if text is None:
        return None
    found = json_or_file(option, text)
    if not isinstance(found, dict):
        raise UsageError(f"{option} must be a JSON object.")
    return found


def text_or_object(option: str, text: str | None) -> object:
    """Return text as it is, or parse it where it is a JSON object."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    return _parsed(option, text)


def pairs(option: str, texts: Sequence[str] | None, *, as_json: bool = False) -> dict[str, object]:
    """Return the values of NAME=VALUE arguments, which may also be JSON objects of texts.

    With `as_json` each VALUE is JSON, and an argument is never an object.
    """
    found: dict[str, object] = {}
    for text in texts or ():
        if not as_json and text.lstrip().startswith("{"):
            more = object_or_file(option, text) or {}
            _refuse_again(option, [*found, *more])
            found |= more
            continue
        name, equals, value = text.partition("=")
        if not name or not equals:
            kind = "JSON" if as_json else "VALUE"
            raise UsageError(f"{option} {text!r} is wrong: write it as NAME={kind}.")
        _refuse_again(option, [*found, name])
        found[name] = _parsed(f"{option} {name}", value) if as_json else value
    return found


def _refuse_again(what: str, names: Sequence[str]) -> None:
    """Raise UsageError for a name that is given twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"{what}: {name!r} is given twice: give it once.")
        seen.add(name)


def attached(
    paths: Sequence[Path] | None, contexts: Mapping[str, object]
) -> list[dict[str, object]]:
    """Return files as the sender takes them: data URLs, each with its context."""
    _refuse_again("--file", [os.path.realpath(path) for path in paths or ()])
    names = {path.name for path in paths or ()}
    for name in contexts:
        if name not in names:
            raise UsageError(f"--file-context {name!r} names none of the files: give --file too.")
    return [_attached(path, contexts.get(path.name)) for path in paths or ()]


def _attached(path: Path, context: object) -> dict[str, object]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The file {path} cannot be read: {error.strerror}.") from None
    if not data:
        raise UsageError(f"The file {path} is empty.")
    kind = TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or UNKNOWN_TYPE
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return given(data=url, filename=path.name, mediaType=kind, context=context)


def _parsed(what: str, text: str) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _refuse_again(what, [name for name, _ in pairs])
        return dict(pairs)

    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what} is no JSON ({error}): text must stand in quotes.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
