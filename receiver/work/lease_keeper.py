"""Renewal of leases, in a thread of its own so that a busy event loop loses none."""

import threading
import time
from collections.abc import Callable

from receiver.telemetry.logs import get_logger
from storage import RENEW_SECONDS, CannotStore, Lease, Store

log = get_logger("worker")

LOOK_SECONDS = 1.0
"""Interval at which to look for jobs whose worker is gone, where other processes work too."""


class LeaseKeeper:
    """A thread that renews our leases and frees those of workers that are gone.

    Where other processes work too, it looks every second for leases that have run out, so that the
    jobs of a dead machine soon start elsewhere.
    """

    def __init__(
        self, store: Store, leases: Callable[[], list[Lease]], released: Callable[[], object]
    ) -> None:
        """`leases` returns those that are held now; `released` is called after some were freed."""
        self._store = store
        self._leases = leases
        self._released = released
        self._stopped = threading.Event()
        self._look_seconds = LOOK_SECONDS if store.is_shared else RENEW_SECONDS
        self._renew_at = time.monotonic() + RENEW_SECONDS
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._look_seconds):
            try:
                self._renew_if_due()
                if self._store.jobs.release_expired():
                    self._released()
            except CannotStore as error:
                log.warning("leases could not be renewed", error=str(error))
            except Exception:  # without this thread every lease runs out
                log.exception("renewing leases broke")

    def _renew_if_due(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        if leases := self._leases():
            self._store.jobs.renew(leases)
        self._renew_at = time.monotonic() + RENEW_SECONDS
