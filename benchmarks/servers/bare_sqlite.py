"""The bare yardstick's statements for SQLite.

WAL, synchronous=FULL; one multi-row INSERT per group, whose trigger makes the jobs; another
connection checkpoints, so that no commit waits for it.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence

STATEMENTS = 300  # kept prepared: one for each size of a group
CHECKPOINT_EVERY = 0.1  # seconds
WAL_LIMIT = 16384  # pages (64 MB) after which writers wait once, so that the log starts again

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (id INTEGER PRIMARY KEY, key INTEGER NOT NULL UNIQUE, at REAL, body BLOB);
CREATE TABLE jobs (event INTEGER PRIMARY KEY, status INTEGER NOT NULL, due REAL NOT NULL);
CREATE TRIGGER work AFTER INSERT ON events
BEGIN INSERT INTO jobs VALUES (new.id, 0, new.at); END;
"""


def create(url: str) -> Callable[[Sequence[tuple[int, float, bytes]]], None]:
    """Make the tables; give what inserts a group, always called from one thread."""
    path = url.removeprefix("sqlite:///")
    connection = _connect(path)
    connection.executescript(SCHEMA)
    threading.Thread(target=_checkpoint, args=(path,), daemon=True).start()

    def insert(rows: Sequence[tuple[int, float, bytes]]) -> None:
        connection.execute(_insert(len(rows)), [value for row in rows for value in row])

    return insert


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, cached_statements=STATEMENTS, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _insert(rows: int) -> str:
    values = ",".join(["(?,?,?)"] * rows)
    return f"INSERT INTO events (key, at, body) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608  (only question marks)


def _checkpoint(path: str) -> None:
    connection = _connect(path)
    while True:
        time.sleep(CHECKPOINT_EVERY)
        _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > WAL_LIMIT:
            connection.execute("PRAGMA wal_checkpoint(RESTART)")
