"""Who is inside when a database is closed: they are waited for, and nobody else comes in."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import CannotStore

CLOSE_SECONDS = 5.0
"""How long an end waits for those inside; a connection that hangs is left to the system then."""


class Drain:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.is_closed = False
        self._inside = 0
        self._changed = threading.Condition()

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Be inside for the block; raises CannotStore after the end."""
        with self._changed:
            if self.is_closed:
                raise CannotStore("The database is closed.")
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in from now on; return when the last one is out."""
        with self._changed:
            self.is_closed = True
            self._changed.wait_for(lambda: not self._inside, timeout=CLOSE_SECONDS)
