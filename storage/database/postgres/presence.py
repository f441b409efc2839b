"""The one connection that a serving process keeps to Postgres: hints, the clock, and being there.

Hints go over NOTIFY, outside of every transaction that matters: a lost one costs a poll. That
somebody serves this database is a shared advisory lock, which the server frees at any end of ours.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import psycopg

from storage.errors import CannotOpen

CHANNEL = "resultsink"
SERVED = (20_261, 1)
"""The advisory lock that all who serve a database share, and that `db copy` takes alone."""

CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"

QUIET_SECONDS = 0.05
"""At most one hint in this time, however many deliveries come."""

CLOCK_SECONDS = 5.0
AGAIN_SECONDS = 0.5
PATIENCE_SECONDS = 4.0
"""How long a call on this connection may take before it is taken for lost."""

log = logging.getLogger(__name__)


class Presence:
    """Connects by `connect` for as long as it lives, and again after each failure.

    `measure` is called again and again with what asks the server for its clock.
    The first connection is made here: raises CannotOpen where the database is not to be served.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        measure: Callable[[Callable[[], float]], None],
        limit: Callable[[Any, float], AbstractContextManager[object]],
    ) -> None:
        self._connect = connect
        self._measure = measure
        self._limit = limit
        self._heard: list[Callable[[], None]] = []
        self._wake_out, self._wake_in = os.pipe()
        self._has_hint = threading.Event()
        self._closing = False
        self._raw: Any = self._connected()
        self._thread = threading.Thread(target=self._run, name="standing", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can take the database alone: else nothing may be written to it."""
        return self._raw is not None

    def hint(self) -> None:
        """Have the others told soon."""
        if not self._has_hint.is_set():
            self._has_hint.set()
            os.write(self._wake_in, b".")

    def listen(self, heard: Callable[[], None]) -> None:
        self._heard.append(heard)

    def close(self) -> None:
        self._closing = True
        os.write(self._wake_in, b".")
        self._thread.join()  # each of its calls ends within PATIENCE_SECONDS
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _connected(self) -> Any:
        raw = self._connect()
        try:
            with self._limit(raw, PATIENCE_SECONDS):
                lock = "SELECT pg_try_advisory_lock_shared(%s, %s)"
                if not raw.execute(lock, SERVED).fetchone()[0]:
                    raise CannotOpen(
                        "The database is being copied: start this again when `db copy` has ended."
                    )
                raw.execute(f"LISTEN {CHANNEL}")
                self._measure(partial(_clock, raw))
        except BaseException:
            raw.close()
            raise
        return raw

    def _run(self) -> None:
        while not self._closing:
            try:
                if self._raw is None:
                    self._raw = self._connected()
                    self._tell()  # what was said meanwhile was not heard
                self._stand()
            except Exception as error:  # noqa: BLE001  whatever it is: connect again
                log.warning("the standing connection was lost: %s", error)
                self._drop()
                time.sleep(AGAIN_SECONDS)
        self._leave()

    def _stand(self) -> None:
        """Listen, hint, and look at the server's clock, until closing or a failure."""
        last_look = last_hint = time.monotonic()
        polled = select.poll()  # `select` takes no descriptor above 1023
        for descriptor in (self._raw.fileno(), self._wake_out):
            polled.register(descriptor, select.POLLIN)
        while not self._closing:
            wait = max(0.0, last_look + CLOCK_SECONDS - time.monotonic())
            ready = [descriptor for descriptor, _ in polled.poll(wait * 1000)]
            if self._wake_out in ready:
                os.read(self._wake_out, 4096)
            if self._raw.fileno() in ready and any(True for _ in self._raw.notifies(timeout=0)):
                self._tell()
            if self._has_hint.is_set():
                time.sleep(max(0.0, last_hint + QUIET_SECONDS - time.monotonic()))
                last_hint = time.monotonic()
                self._has_hint.clear()
                with self._limit(self._raw, PATIENCE_SECONDS):
                    self._raw.execute(f"NOTIFY {CHANNEL}")
            if time.monotonic() - last_look >= CLOCK_SECONDS:
                last_look = time.monotonic()
                with self._limit(self._raw, PATIENCE_SECONDS):
                    self._measure(partial(_clock, self._raw))

    def _tell(self) -> None:
        for heard in self._heard:
            heard()

    def _leave(self) -> None:
        """Give the lock back before the connection ends: the server sees its end a little later."""
        try:
            if self._raw is not None:
                with self._limit(self._raw, PATIENCE_SECONDS):
                    self._raw.execute("SELECT pg_advisory_unlock_shared(%s, %s)", SERVED)
        except psycopg.Error as error:
            log.warning("the standing connection was lost: %s", error)
        finally:
            self._drop()

    def _drop(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


def _clock(raw: Any) -> float:
    """The server's clock, in seconds since 1970."""
    return float(raw.execute(CLOCK).fetchone()[0])
