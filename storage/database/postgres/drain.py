"""Closing a database: transactions that run are waited for, and no new one begins."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import CannotStore

CLOSE_SECONDS = 5.0
"""How long closing waits for running transactions; then one that hangs is abandoned."""


class Drain:
    """Counts the transactions that run."""

    def __init__(self) -> None:
        self.is_closed = False
        self._running = 0
        self._changed = threading.Condition()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one transaction during the block; raises CannotStore once closed."""
        with self._changed:
            if self.is_closed:
                raise CannotStore("The database is closed.")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Refuse new transactions; return when the last one has ended."""
        with self._changed:
            self.is_closed = True
            self._changed.wait_for(lambda: not self._running, timeout=CLOSE_SECONDS)
