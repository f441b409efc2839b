"""The one connection that a serving process keeps: its hints, the server's clock, its lock.

Hints go over LISTEN/NOTIFY, outside of the transactions that store something: a lost one costs a
poll. A shared advisory lock tells that this database is served; the server frees it however the
process ends.
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

from storage.database.postgres.names import Names
from storage.errors import CannotOpen

COPIED = "The database is being copied: start this again when `db copy` has ended."

CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"

QUIET_SECONDS = 0.05
"""At most one hint in this time, however many deliveries come."""

CLOCK_SECONDS = 5.0
AGAIN_SECONDS = 0.5
CALL_SECONDS = 4.0
"""How long a call on this connection may take before the connection counts as lost."""

log = logging.getLogger(__name__)


class Presence:
    """Connects by `connect` until it is closed, and again after each failure.

    `measure` is called every CLOCK_SECONDS with a function that reads the server's clock. The first
    connection is made at once: raises CannotOpen while the database is being copied.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        measure: Callable[[Callable[[], float]], None],
        limit: Callable[[Any, float], AbstractContextManager[object]],
        names: Names,
    ) -> None:
        self._names = names
        self._connect = connect
        self._measure = measure
        self._limit = limit
        self._on_notify: list[Callable[[], None]] = []
        self._wake_out, self._wake_in = os.pipe()
        self._has_hint = threading.Event()
        self._closing = False
        self._last_look = 0.0
        self._raw: Any = self._connected()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """True while this process holds its share of the lock, without which nothing is written."""
        return self._raw is not None

    def hint(self) -> None:
        """Notify the other processes soon."""
        if not self._has_hint.is_set():
            self._has_hint.set()
            os.write(self._wake_in, b".")

    def listen(self, on_notify: Callable[[], None]) -> None:
        self._on_notify.append(on_notify)

    def doubt(self) -> None:
        """Look now if the server still takes writes: elsewhere it did not."""
        self._last_look = 0.0
        os.write(self._wake_in, b".")

    def close(self) -> None:
        self._closing = True
        os.write(self._wake_in, b".")
        self._thread.join()  # each of its calls ends within CALL_SECONDS
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _connected(self) -> Any:
        raw = self._connect()
        try:
            with self._limit(raw, CALL_SECONDS):
                lock = "SELECT pg_try_advisory_lock_shared(%s, %s)"
                if not raw.execute(lock, self._names.served).fetchone()[0]:
                    raise CannotOpen(COPIED)
                raw.execute(f"LISTEN {self._names.channel}")
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
                    self._notify()  # hints may have been missed meanwhile
                self._serve()
            except Exception as error:  # noqa: BLE001  connect again after any
                log.warning("the presence connection was lost: %s", error)
                self._drop()
                time.sleep(AGAIN_SECONDS)
        self._leave()

    def _serve(self) -> None:
        """Listen, hint, and read the server's clock, until closed or a failure."""
        self._last_look = last_hint = time.monotonic()
        polled = select.poll()  # `select` refuses descriptors above 1023
        for descriptor in (self._raw.fileno(), self._wake_out):
            polled.register(descriptor, select.POLLIN)
        while not self._closing:
            wait = max(0.0, self._last_look + CLOCK_SECONDS - time.monotonic())
            ready = [descriptor for descriptor, _ in polled.poll(wait * 1000)]
            if self._wake_out in ready:
                os.read(self._wake_out, 4096)
            if self._raw.fileno() in ready and any(True for _ in self._raw.notifies(timeout=0)):
                self._notify()
            if self._has_hint.is_set():
                time.sleep(max(0.0, last_hint + QUIET_SECONDS - time.monotonic()))
                last_hint = time.monotonic()
                self._has_hint.clear()
                with self._limit(self._raw, CALL_SECONDS):
                    self._raw.execute(f"NOTIFY {self._names.channel}")
            if time.monotonic() - self._last_look >= CLOCK_SECONDS:
                self._last_look = time.monotonic()
                with self._limit(self._raw, CALL_SECONDS):
                    self._measure(partial(_clock, self._raw))
                    _refuse_read_only(self._raw)

    def _notify(self) -> None:
        for on_notify in self._on_notify:
            on_notify()

    def _leave(self) -> None:
        """Free the lock before the connection ends, which the server notices a little later."""
        try:
            if self._raw is not None:
                with self._limit(self._raw, CALL_SECONDS):
                    unlock = "SELECT pg_advisory_unlock_shared(%s, %s)"
                    self._raw.execute(unlock, self._names.served)
        except psycopg.Error as error:
            log.warning("the presence connection was lost: %s", error)
        finally:
            self._drop()

    def _drop(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


def _refuse_read_only(raw: Any) -> None:
    """Raise ReadOnlySqlTransaction where others serve elsewhere now: the server was the primary."""
    if raw.execute("SHOW transaction_read_only").fetchone()[0] == "on":
        raise psycopg.errors.ReadOnlySqlTransaction("the server takes no writes any more")


def _clock(raw: Any) -> float:
    """Return the server's time, in seconds since 1970."""
    return float(raw.execute(CLOCK).fetchone()[0])
