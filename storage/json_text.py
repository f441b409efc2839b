"""Large JSON documents, walked, written and read so that other threads can run meanwhile.

The encoder and the scanner in C hold the interpreter's lock until they call a function that is
written in Python. The functions that they call here do next to nothing, but the event loop can take
the lock.
"""

import json
import re
from collections.abc import Callable
from itertools import islice
from json import encoder
from math import isfinite
from typing import Any

DEEPEST = 300
"""Levels of nested lists and objects that are walked; readers of JSON have such limits too."""

Change = Callable[[Any], Any]
Encode = Callable[[Any], str]


def mapped(value: Any, change: Change, *, keys: Change | None = None, levels: int = DEEPEST) -> Any:
    """Return the value with `change(leaf)` for each text and number, and `keys(key)` for each key.

    Returns the same object where nothing changes, without a copy. Raises RecursionError below
    DEEPEST levels, however much of the stack is left.
    """
    if isinstance(value, list):
        return _mapped_list(value, change, keys, levels)
    if isinstance(value, dict):
        return _mapped_object(value, change, keys, levels)
    return change(value)


def _mapped_list(before: list[Any], change: Change, keys: Change | None, levels: int) -> list[Any]:
    if not levels:
        raise RecursionError("nested too deeply")
    after: list[Any] | None = None
    for place, item in enumerate(before):
        new = mapped(item, change, keys=keys, levels=levels - 1)
        if after is None and new is not item:
            after = before[:place]
        if after is not None:
            after.append(new)
    return before if after is None else after


def _mapped_object(
    before: dict[str, Any], change: Change, keys: Change | None, levels: int
) -> dict[str, Any]:
    if not levels:
        raise RecursionError("nested too deeply")
    after: dict[str, Any] | None = None
    for place, (key, item) in enumerate(before.items()):
        name = key if keys is None else keys(key)
        new = mapped(item, change, keys=keys, levels=levels - 1)
        if after is None and not (name is key and new is item):
            after = dict(islice(before.items(), place))
        if after is not None:
            after[name] = new
    return before if after is None else after


def encoded(value: Any, *, sort_keys: bool = False) -> str:
    """Return the value as JSON in ASCII; raises RecursionError where it is nested too deeply."""
    return (_SORTED if sort_keys else _UNSORTED)(value)


def decoded(text: str) -> Any:
    """Return the value of a JSON text; raises RecursionError where it is nested too deeply."""
    return _DECODER.decode(text)


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} is no JSON")


def plain_encoder(*, sort_keys: bool) -> Encode:
    """Return an encoder made of the public parts of `json` alone; it may hold the lock for long."""
    return json.JSONEncoder(check_circular=False, sort_keys=sort_keys, default=_refuse).encode


def polite_encoder(*, sort_keys: bool) -> Encode | None:
    """Return an encoder that writes the same and lets other threads run, or None.

    It is the private one that `json.dumps` uses, which has no parameter for the function that
    writes a text. None means that this interpreter has another, or none.
    """
    try:
        chunks = encoder.c_make_encoder(  # type: ignore[attr-defined]
            None,  # no search for circular references
            _refuse,
            _quoted,
            None,  # no indent
            ": ",
            ", ",
            sort_keys,
            False,  # keys that are no text are not left out
            True,  # NaN and the infinities are written
        )
        is_same = "".join(chunks(_SAMPLE, 0)) == plain_encoder(sort_keys=sort_keys)(_SAMPLE)
    except (AttributeError, TypeError):
        return None
    return (lambda value: "".join(chunks(value, 0))) if is_same else None


def _quoted(text: str) -> str:
    """Write one text. It is written in Python, so that the lock can change hands."""
    return encoder.encode_basestring_ascii(text)


_SAMPLE = {"b": [1, -2.5, float("nan"), None, True], "a": {"\u00e9": '"\n'}, "c": [[], {}, ""]}

_UNSORTED = polite_encoder(sort_keys=False) or plain_encoder(sort_keys=False)
_SORTED = polite_encoder(sort_keys=True) or plain_encoder(sort_keys=True)
_DECODER = json.JSONDecoder(object_hook=lambda found: found)


UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(value: Any) -> Any:
    """Replace what databases refuse, at any depth; returns the same object where they do not.

    In text NUL and lone surrogates become U+FFFD; NaN and the infinities, which are no JSON, None.
    Raises RecursionError where the value is nested too deeply.
    """
    return mapped(value, _storable, keys=_storable)


def _storable(leaf: Any) -> Any:
    if isinstance(leaf, str):
        return UNSTORABLE.sub("�", leaf)
    return None if isinstance(leaf, float) and not isfinite(leaf) else leaf
