"""Log lines, written by a thread in batches."""

import atexit
import os
import threading
import time
from collections import deque
from typing import Final, TextIO

BATCH: Final = 0.05

BACKLOG: Final = 50_000


class LineWriter:
    """Writes all lines of the process to one stream: immediately, or in batches by a thread.

    A stream that cannot be written loses lines (the oldest beyond BACKLOG): a full disk must not
    refuse deliveries because they cannot be logged.
    """

    def __init__(self) -> None:
        self._stream: TextIO | None = None
        self._late = False
        self._registered = False
        self.takes_info = False
        self._reset()

    def _reset(self) -> None:
        """Start empty; in a forked child too, where the thread is gone and the lock may be held."""
        self._lines: deque[str] = deque(maxlen=BACKLOG)
        self._lock = threading.Lock()
        self._awake = threading.Event()

    def open(self, stream: TextIO, *, late: bool) -> None:
        self.flush()
        self._stream, self._late = stream, late
        if not self._registered:
            self._registered = True
            atexit.register(self.flush)
            os.register_at_fork(after_in_child=self._reset)

    def write(self, line: str) -> None:
        self._lines.append(line)
        if not self._late:
            self.flush()
        elif not self._awake.is_set():
            self._awake.set()
            self._start()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="logs", daemon=True).start()
        except RuntimeError:  # the interpreter is on its way out
            self.flush()

    def _run(self) -> None:
        time.sleep(BATCH)
        self._awake.clear()  # before the lines are taken: a later line must find a new thread
        self.flush()

    def flush(self) -> None:
        with self._lock:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if not lines or self._stream is None:
                return
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: the stream was closed
                return


def is_file(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, AttributeError):
        return False
    return not stream.isatty()
