"""Drivers' errors sorted: not now, try again at once, or the statement's own fault."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError

from storage.errors import CannotStore

_SQLITE_NOT_NOW = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)

# https://www.postgresql.org/docs/current/errcodes-appendix.html, by class or whole
_POSTGRES_NOT_NOW = (
    "08",  # connection
    "25006",  # read only: a standby, or a server that is set so
    "25P03",  # we were frozen in the middle of a transaction
    "25P04",  # the server's own limit for a transaction
    "28",  # the login was refused
    "3D000",  # the database is gone
    "40",  # rolled back, again and again
    "42501",  # a right is missing, until somebody grants it
    "53",  # out of disk, memory or connections
    "55P03",  # a lock did not come in time
    "57",  # cancelled by a timeout, shutting down, starting up
    "58",  # the system beneath
    "XX",  # corrupted, or a bug of the server
)
_POSTGRES_READ_ONLY = "25006"
_POSTGRES_AGAIN = ("40001", "40P01")
_POSTGRES_FULL = "53100"
_POSTGRES_CANCELLED = "57014"


def is_not_now(error: BaseException) -> bool:
    """Return True where the database cannot work now; any other error is the statement's fault.

    A caller that waits for the database to recover would wait for ever, without counting a failure,
    where the statement is at fault.
    """
    if isinstance(error, TimeoutError):  # of the pool
        return True
    orig: Any = getattr(error, "orig", None)
    if hasattr(orig, "sqlstate"):
        if orig.sqlstate is None:  # an error of the driver, not of the server
            return isinstance(error, OperationalError)
        return str(orig.sqlstate).startswith(_POSTGRES_NOT_NOW)
    code = getattr(orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _SQLITE_NOT_NOW  # higher bits are detail


@contextmanager
def reading() -> Iterator[None]:
    """Raise CannotStore where the database cannot be read now."""
    try:
        yield
    except (DBAPIError, TimeoutError) as error:
        if not is_not_now(error):
            raise
        raise CannotStore(f"The database cannot be read now: {reason(error)}.") from error


def asks_again(error: BaseException) -> bool:
    """Return True where the transaction may succeed at once if repeated, as after a deadlock."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _POSTGRES_AGAIN


def is_read_only(error: BaseException) -> bool:
    """Return True where the server takes no writes: it was the primary, or is set so."""
    error = getattr(error, "orig", None) or error
    return getattr(error, "sqlstate", None) == _POSTGRES_READ_ONLY


def is_full(error: BaseException) -> bool:
    """Return True where the server's disk is full."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == _POSTGRES_FULL


def is_cancelled(error: BaseException) -> bool:
    """Return True where the server cancelled a statement, by its time limit or on request."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == _POSTGRES_CANCELLED


def reason(error: BaseException) -> str:
    """Return the driver's message, which names the cause, in one line and without the full stop."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".?")
