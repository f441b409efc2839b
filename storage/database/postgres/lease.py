"""Serving without a session, behind a pooler: a row of `meta` that each process renews.

Its value is the end of the lease, in seconds since 1970. It stands for the lock of a Presence.
Nobody can listen there: workers look for jobs once a second.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlmodel import col

from storage.database.base import insert
from storage.database.errors import reason
from storage.database.postgres.names import Names
from storage.database.postgres.presence import AGAIN_SECONDS, COPIED
from storage.errors import CannotOpen, StorageError
from storage.models import SERVING, Meta

LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0

log = logging.getLogger(__name__)


def leases(moment: datetime) -> Select[int]:
    """Return the query that counts the processes whose lease lasts at this moment."""
    lasts = col(Meta.value) >= f"{moment.timestamp():.0f}"
    return select(func.count()).where(col(Meta.key).startswith(SERVING), lasts)


class Lease:
    """Renews the row by `transact`, on a thread of its own, until it is closed.

    `now` reads the server's clock. Raises CannotOpen while the database is being copied.
    """

    def __init__(
        self,
        transact: Callable[[Callable[[Connection], Any]], Any],
        now: Callable[[Connection], datetime],
        names: Names,
    ) -> None:
        self._names = names
        self._transact = transact
        self._now = now
        self._key = f"{SERVING}{secrets.token_hex(8)}"
        self._held_until = 0.0
        self._closing = threading.Event()
        self._renew()
        log.info(
            "a pooler stands before the database, and database_direct_url is not set: "
            "workers learn of other processes' deliveries within a second, not at once"
        )
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """True while the lease lasts, without which nothing is written."""
        return time.monotonic() < self._held_until

    def hint(self) -> None:
        """Do nothing: nobody can listen."""

    def listen(self, on_notify: Callable[[], None]) -> None:
        """Do nothing: see `hint`."""

    def doubt(self) -> None:
        """Do nothing: each renewal has a connection of the pool, which leaves such a server."""

    def close(self) -> None:
        """Take the row away, so that `db copy` need not wait for its end."""
        self._closing.set()
        self._thread.join()
        try:
            self._transact(lambda c: c.execute(delete(Meta).where(col(Meta.key) == self._key)))
        except (DBAPIError, StorageError, TimeoutError) as error:
            log.warning("the lease ends by itself: %s", reason(error))

    def _run(self) -> None:
        wait = RENEW_SECONDS
        while not self._closing.wait(wait):
            try:
                self._renew()
                wait = RENEW_SECONDS
            except Exception as error:  # noqa: BLE001  try again after any
                log.warning("the lease on the database was not renewed: %s", reason(error))
                wait = AGAIN_SECONDS

    def _renew(self) -> None:
        began = time.monotonic()
        self._transact(self._write)
        self._held_until = began + LEASE_SECONDS

    def _write(self, connection: Connection) -> None:
        lock = "SELECT pg_try_advisory_xact_lock_shared(%s, %s)"
        if not connection.exec_driver_sql(lock, self._names.served).scalar_one():
            raise CannotOpen(COPIED)
        seconds = self._now(connection).timestamp()
        connection.execute(
            delete(Meta).where(
                col(Meta.key).startswith(SERVING), col(Meta.value) < f"{seconds:.0f}"
            )
        )
        value = f"{seconds + LEASE_SECONDS:.0f}"
        ours = insert(Meta).values(key=self._key, value=value)
        connection.execute(
            ours.on_conflict_do_update(index_elements=["key"], set_={"value": value})
        )
