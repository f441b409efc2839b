"""Moving SQLite's write-ahead log into the database file, outside of the commits."""

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

PERIOD_SECONDS = 0.5
START_BYTES = 4 * 1024 * 1024
"""Size of the log from which pages are moved."""

LIMIT_PAGES = 16 * 1024
"""Pages in the log from which it is also restarted, which delays one commit for a moment."""

KEPT_BYTES = 2 * LIMIT_PAGES * 4096
"""Largest size that the log file keeps when it is restarted after it grew beside a long reader.

A smaller one is overwritten: truncating it and letting it grow again costs a commit 50 ms.
"""


class Checkpointer:
    """A thread with a connection of its own that keeps the log of the file at `path` short.

    A checkpoint inside a commit delays that commit's deliveries; this thread runs beside them.
    Under unbroken load it never reaches the end of the log, so from LIMIT_PAGES on `restart` is
    called, which has the rest moved between two transactions.
    """

    def __init__(self, path: Path, restart: Callable[[], None]) -> None:
        self._path = path
        self._log = Path(f"{path}-wal")
        self._restart = restart
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpointer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            while not self._stop.wait(PERIOD_SECONDS):
                if self._size() > START_BYTES:
                    self._look(connection)
        finally:
            connection.close()

    def _look(self, connection: sqlite3.Connection) -> None:
        try:
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return  # locked or full: the log keeps everything, and the next look tries again
        if pages > LIMIT_PAGES:
            self._restart()

    def _size(self) -> int:
        try:
            return os.stat(self._log).st_size
        except FileNotFoundError:
            return 0
