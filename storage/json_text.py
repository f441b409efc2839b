"""JSON documents, which may be large: walked, written and read so that other threads may run.

The encoder and the scanner in C hold the interpreter's lock until they call something that is
written in Python: what they call here does next to nothing, but lets the event loop have its turn.
"""

import json
import re
from collections.abc import Callable
from itertools import islice
from json import encoder
from math import isfinite
from typing import Any

DEEPEST = 300
"""Levels of lists and objects inside each other that are walked; readers have such limits too."""

Change = Callable[[Any], Any]


def mapped(value: Any, change: Change, *, keys: Change | None = None, levels: int = DEEPEST) -> Any:
    """Put `change(leaf)` in the place of each text and number, at any depth, and `keys(key)`.

    Returns the value itself where nothing changes: nothing is copied then, and whoever asks
    `is` knows. Raises RecursionError below DEEPEST levels, on every stack alike.
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
    """The value as JSON, escaped to ASCII; raises RecursionError where it is nested too deeply."""
    return "".join((_SORTED if sort_keys else _AS_IT_IS)(value, 0))


def decoded(text: str) -> Any:
    """The value of what `encoded` wrote; raises RecursionError as it does."""
    return _DECODER.decode(text)


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} is no JSON")


def _quoted(text: str) -> str:
    return encoder.encode_basestring_ascii(text)


def _encoder(*, sort_keys: bool) -> Callable[[Any, int], tuple[str, ...]]:
    """What `json.dumps` uses, which has no parameter for the function that writes a text."""
    # circular references, others, texts, indent, between key and value, between items, sorted,
    # keys that are none are left out, NaN is written
    return encoder.c_make_encoder(  # type: ignore[no-any-return, attr-defined]
        None, _refuse, _quoted, None, ": ", ", ", sort_keys, False, True
    )


_AS_IT_IS, _SORTED = _encoder(sort_keys=False), _encoder(sort_keys=True)
_DECODER = json.JSONDecoder(object_hook=lambda found: found)


UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(value: Any) -> Any:
    """Replace what databases refuse, at any depth; returns the value itself where they do not.

    In text NUL and lone surrogates become U+FFFD; NaN and the infinities, which are no JSON, None.
    Raises RecursionError for what is nested too deeply.
    """
    return mapped(value, _storable, keys=_storable)


def _storable(leaf: Any) -> Any:
    if isinstance(leaf, str):
        return UNSTORABLE.sub("�", leaf)
    return None if isinstance(leaf, float) and not isfinite(leaf) else leaf
