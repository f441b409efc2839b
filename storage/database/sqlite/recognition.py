"""Whose file it is, and of which revision: looked at without changing it or making files beside it.

Ours has APPLICATION_ID in its header (https://sqlite.org/fileformat2.html#application_id); files of
earlier versions have none, and are recognised by their tables.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storage.database.sqlite.files import refusal
from storage.errors import CannotOpen
from storage.migrations.ownership import COLUMNS, are_ours

APPLICATION_ID = 0x52534E4B
"""The letters RSNK."""

LOOK_SECONDS = 1.5

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_ID_AT = slice(68, 72)

_NAMES = (
    "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
)
_COLUMNS = "SELECT name FROM pragma_table_info(?)"


def look(path: Path) -> str | None:
    """Return the revision of the tables in this file; None without a file, or without tables.

    Raises CannotOpen for another program's file, and for one that cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal(path, error) from error
    if not header:
        return None
    mark = int.from_bytes(header[_ID_AT])
    if not header.startswith(_MAGIC) or mark not in (0, APPLICATION_ID):
        raise _not_ours(path)
    try:
        return _revision(path) if mark else _unmarked(path)
    except (sqlite3.Error, OSError) as error:
        raise refusal(path, error) from error


def _revision(path: Path) -> str | None:
    """Return the revision in a file of ours, or in one that nobody writes."""
    # Without a log nobody writes, and `immutable` takes no lock and makes no files.
    with _opened(path, "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1") as connection:
        return _revision_in(connection, path)


def _revision_in(connection: sqlite3.Connection, path: Path) -> str | None:
    if not _holds_ours(connection, path):
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _unmarked(path: Path) -> str | None:
    """Return the same for a file that may be another program's, which perhaps writes to it now.

    A connection that reads the log may make a file beside it. So the file is looked at without its
    log, and if there are no tables in it, a copy of both is.
    """
    with _opened(path, "immutable=1") as connection:
        is_ours = _holds_ours(connection, path)
    if is_ours:
        return _revision(path)
    log = Path(f"{path}-wal")
    return _logged(path, log) if log.exists() and log.stat().st_size else None


def _logged(path: Path, log: Path) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(log, f"{copy}-wal")
        with _opened(copy, "mode=ro") as connection:
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            if mark not in (0, APPLICATION_ID):
                raise _not_ours(path)
            return _revision_in(connection, path)


@contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.as_uri()}?{how}"
    with closing(sqlite3.connect(uri, uri=True, timeout=LOOK_SECONDS)) as connection:
        yield connection


def _holds_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Return True for our tables, False without any; raises CannotOpen for another program's."""
    names = {name for (name,) in connection.execute(_NAMES)}
    columns = {
        table: {column for (column,) in connection.execute(_COLUMNS, (table,))}
        for table in names & COLUMNS.keys()
    }
    if names and not are_ours(columns):
        raise _not_ours(path)
    return bool(names)


def _not_ours(path: Path) -> CannotOpen:
    return CannotOpen(
        f"The file {path} belongs to another program: "
        "name a file of our own in RESULTSINK_DATABASE_URL."
    )
