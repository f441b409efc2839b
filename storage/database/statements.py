"""Statements that are built once: building one costs up to ten times what running it costs."""

from collections.abc import Callable, Iterable
from functools import cache, wraps
from inspect import signature
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, bindparam


def statement(build: Callable[..., Executable]) -> Callable[..., CursorResult[Any]]:
    """Return a function that runs the statement of `build`, given its arguments by name.

    `build` is called once, with a bound parameter for each argument.
    """

    @cache
    def built() -> Executable:
        return build(*(bindparam(name) for name in signature(build).parameters))

    @wraps(build)
    def run(connection: Connection, **values: Any) -> CursorResult[Any]:
        return connection.execute(built(), values)

    return run


def as_dicts(rows: Iterable[Any]) -> list[Any]:
    """Return the rows as dicts by column, for a caller that declares which columns these are."""
    return [dict(row._mapping) for row in rows]
