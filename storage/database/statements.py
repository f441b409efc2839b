"""Statements that are built once: to build one costs up to ten times what running it costs."""

from collections.abc import Callable
from functools import cache, wraps
from inspect import signature
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, bindparam


def statement(build: Callable[..., Executable]) -> Callable[..., CursorResult[Any]]:
    """What runs the statement that `build` returns, given the connection and the arguments by name.

    `build` is called once, with a bound parameter for each argument.
    """

    @cache
    def built() -> Executable:
        return build(*(bindparam(name) for name in signature(build).parameters))

    @wraps(build)
    def run(connection: Connection, **values: Any) -> CursorResult[Any]:
        return connection.execute(built(), values)

    return run
