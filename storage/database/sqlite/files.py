"""The database's file before it is opened: its path, its schema, the lock of its server.

Looking changes nothing, neither in the file nor beside it: it may be another program's.
"""

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url

from storage.errors import AlreadyServed, CannotOpen

LOOK_SECONDS = 1.5
CLAIM_TRIES = 5
CLAIM_WAIT_SECONDS = 0.1

_MAGIC = b"SQLite format 3\x00"
_OURS = {"alembic_version", "deliveries"}


def sqlite_path(url: str) -> Path:
    """Return the file that `url` names; raises CannotOpen."""
    parsed = make_url(url)
    if not parsed.database or parsed.database == ":memory:":
        raise CannotOpen("A database in memory would lose what it acknowledged: name a file.")
    path = Path(parsed.database).absolute()
    if not path.parent.is_dir():
        raise CannotOpen(f"The folder {path.parent} does not exist: make it first.")
    return path


def look(path: Path) -> str | None:
    """Return the schema revision in this file; None without a file, or without tables.

    Raises CannotOpen for another program's file, and for one that cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal(path, error) from error
    if start and start != _MAGIC:
        raise _not_ours(path)
    return _revision(path) if start else None


def _revision(path: Path) -> str | None:
    # Without a log nobody writes, and `immutable` takes no lock and makes no files.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=LOOK_SECONDS)
        ) as connection:
            named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in named if not name.startswith("sqlite_")}
            if not tables:
                return None
            if not tables >= _OURS:
                raise _not_ours(path)
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise refusal(path, error) from error
    return None if row is None else str(row[0])


def _not_ours(path: Path) -> CannotOpen:
    return CannotOpen(
        f"The file {path} belongs to another program: "
        "name a file of our own in RESULTSINK_DATABASE_URL."
    )


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
    try:
        lock = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotOpen(f"The lock beside {path} cannot be made: {error}.") from error
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


def _lock_file(path: Path) -> str:
    return f"{path}.lock"
