"""Transactions that one of our own limits has ended, told apart from other failures."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from storage.database.errors import is_cancelled
from storage.errors import CannotStore


@contextmanager
def in_time(is_cut: Callable[[], bool], *, statement: float, cut: float) -> Iterator[None]:
    """Raise CannotStore where a limit for a statement, or the cut, ended what is in the block."""
    began = time.monotonic()
    try:
        yield
    except DBAPIError as error:
        is_stopped = is_cancelled(error) and time.monotonic() - began >= statement
        if not (is_cut() or is_stopped):
            raise
        limit = cut if is_cut() else statement
        raise CannotStore(
            f"The database cannot do it now: it took longer than {limit:g} s."
        ) from error
