"""The database's file before it is opened: its path, refusals, and the lock of its server."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from storage.errors import AlreadyServed, CannotOpen

CLAIM_TRIES = 5
CLAIM_WAIT_SECONDS = 0.1


def sqlite_path(url: str) -> Path:
    """Return the file that `url` names; raises CannotOpen."""
    parsed = make_url(url)
    if not parsed.database or parsed.database == ":memory:":
        raise CannotOpen("A database in memory would lose what it acknowledged: name a file.")
    path = Path(parsed.database).absolute()
    if not path.parent.is_dir():
        raise CannotOpen(f"The folder {path.parent} does not exist: make it first.")
    return path


def refusal(path: Path, error: BaseException | None) -> CannotOpen:
    """Return the error for a file that the driver or the system refuses to open."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CannotOpen(
            f"The database {path} is locked by another program: try again when that has ended."
        )
    reason = error.strerror if isinstance(error, OSError) else error
    return CannotOpen(
        f"The database {path} cannot be opened: {reason}. "
        "Give a path that can be written in RESULTSINK_DATABASE_URL."
    )


# --- the lock that one serving process holds for a file; the system frees it at any end -----------


def is_served(path: Path) -> bool:
    """Return True while some process serves this file; several may ask at once."""
    try:
        lock = os.open(_lock_file(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def claim(path: Path) -> int:
    """Take the lock; returns the descriptor to close in the end. Raises AlreadyServed.

    Tries for a moment, because `is_served` in another process holds a share of the lock meanwhile.
    """
    lock = _opened_lock(path)
    for _ in range(CLAIM_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(CLAIM_WAIT_SECONDS)
        else:
            return lock
    os.close(lock)
    raise AlreadyServed(
        f"Another process already serves {path}: stop it, or name another database."
    )


@contextmanager
def unserved(path: Path, before: str, now: str) -> Iterator[None]:
    """Keep servers out while the tables change from one revision to another.

    A server of an earlier version would write rows that the new tables mean otherwise. Several may
    change them at once. Raises AlreadyServed, with nothing changed.
    """
    lock = _opened_lock(path)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyServed(
                f"Another process serves {path}, whose tables are to change from schema {before} "
                f"to {now}: stop `resultsink serve` first, then run this again."
            ) from error
        yield
    finally:
        os.close(lock)


def _opened_lock(path: Path) -> int:
    try:
        return os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotOpen(f"The lock beside {path} cannot be made: {error.strerror}.") from error


def _lock_file(path: Path) -> str:
    return f"{path}.lock"
