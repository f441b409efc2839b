"""Checks of batches that somebody waits for: due at once, and made here where no worker is."""

import asyncio
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool

from receiver.sender_api.calls import Calls
from receiver.telemetry.logs import get_logger
from receiver.work.attempts import Attempts
from receiver.work.lease_keeper import LeaseKeeper
from storage import Lease, LeaseLost, Ledger, Store

log = get_logger("worker")

TAKEN_SECONDS = 5.0
"""A due check that no worker has taken within so long is made here."""

RUNNING_SECONDS = 1.0
"""A check that runs already may have asked too early: after so long it is made due once more."""


class WaitedChecks:
    """Has batches checked for somebody who waits, by the receiver or else by this process.

    Only the sources of `calls` can be asked by this process.
    """

    def __init__(self, store: Store, calls: Sequence[Calls]) -> None:
        self._store = store
        self._slots = {each.source.name: each.source.settings.concurrency for each in calls}
        self._attempts = {each.source.name: Attempts(store, each) for each in calls}
        self._added: set[tuple[str, str]] = set()

    async def check(self, batch: Ledger) -> None:
        """Make the batch's check due, and make it unless a worker takes it soon.

        A batch whose check was given up has a new one, once. Raises CannotStore.
        """
        source, batch_id = batch.source, batch.batch_id
        if (source, batch_id) not in self._added:
            await run_in_threadpool(self._store.unfinished.batch, source, batch_id)
            self._added.add((source, batch_id))
        while (state := await self._want(source, batch_id)) == "running":
            await asyncio.sleep(RUNNING_SECONDS)
        if state == "due" and source in self._attempts and await self._is_left(source, batch_id):
            await self._attempt(source, batch_id)

    async def _want(self, source: str, batch_id: str) -> str:
        return await run_in_threadpool(self._store.batches.want_check, source, batch_id)

    async def _is_left(self, source: str, batch_id: str) -> bool:
        """Return True where nobody serves, or no worker has taken the check in time."""
        if not await run_in_threadpool(self._store.is_served):
            return True
        await asyncio.sleep(TAKEN_SECONDS)
        due = await run_in_threadpool(self._store.batches.check_due, source, batch_id)
        return due is not None and due.total_seconds() <= 0

    async def _attempt(self, source: str, batch_id: str) -> None:
        lease = await run_in_threadpool(self._claim, source, batch_id)
        if lease is None:  # a worker was quicker, or the source is paused or busy
            return
        keeper = LeaseKeeper(self._store, lambda: [lease], lambda: None)
        try:
            await self._attempts[source].attempt(lease)
        except LeaseLost as lost:
            log.info("lease lost", source=source, job=lease.job_id, reason=str(lost))
        except asyncio.CancelledError:
            await self._give_back(lease)
            raise
        finally:
            keeper.stop()

    def _claim(self, source: str, batch_id: str) -> Lease | None:
        check = self._store.unfinished.batch(source, batch_id)
        slots = self._slots[source]
        leases = self._store.jobs.claim_these(
            source, [check.job_id], limit=1, slots=slots, by="wait"
        )
        return leases[0] if leases else None

    async def _give_back(self, lease: Lease) -> None:
        await run_in_threadpool(self._store.jobs.give_back, [lease])
