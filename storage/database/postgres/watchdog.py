"""Connections that hang: a server that no longer answers must not block a thread for ever."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

LOOK_SECONDS = 0.25


class Watchdog:
    """Shuts the sockets of transactions that last too long, so that their threads get an error.

    A server's own timeouts do not help where the network drops packets silently, and TCP notices
    that only after many minutes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, Any]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def limit(self, raw: Any, seconds: float) -> Iterator[Callable[[], bool]]:
        """Cut the psycopg connection `raw` off where the block takes more than `seconds`.

        Yields a function that returns True once that has happened.
        """
        self.begin(raw, seconds)
        try:
            yield lambda: id(raw) not in self._watched
        finally:
            self.end(raw)

    def begin(self, raw: Any, seconds: float) -> None:
        """Cut `raw` off after so many seconds, unless `end` is called before."""
        with self._lock:
            self._watched[id(raw)] = time.monotonic() + seconds, raw

    def end(self, raw: Any) -> None:
        with self._lock:
            self._watched.pop(id(raw), None)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            moment = time.monotonic()
            with self._lock:
                late = [(key, raw) for key, (end, raw) in self._watched.items() if end < moment]
                for key, raw in late:
                    del self._watched[key]
                    _cut(raw)


def _cut(raw: Any) -> None:
    """Shut the socket down on a copy of its descriptor: the connection closes its own itself."""
    with (
        suppress(OSError, ValueError, psycopg.Error),  # it is closed already
        socket.socket(fileno=os.dup(raw.fileno())) as twin,
    ):
        twin.shutdown(socket.SHUT_RDWR)
