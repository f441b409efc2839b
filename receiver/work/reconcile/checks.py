"""Checks attempted now, each under its lease, whoever else works on the same database."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, SourceRefused
from receiver.sender_api.calls import Calls
from receiver.work.attempts import Attempts
from receiver.work.lease_keeper import LeaseKeeper
from receiver.work.reconcile.patience import patiently
from storage import CannotStore, Check, Lease, LeaseLost, Store

LOOK_SECONDS = 0.2
"""Interval at which to look whether a job can be claimed that another process works on."""

PROBE_SECONDS = 10.0
"""How long another process may take for the probe of a paused source."""

Outcome = FetchError | None
"""The error of an attempt; None where nothing is left to look for."""


class Checks:
    """Attempts checks of one source, and holds their leases while it does; a context manager.

    A check that another process is working on is attempted once more after that, since only who
    attempts it knows what its outcome means.
    """

    def __init__(self, store: Store, calls: Calls) -> None:
        self._store = store
        self._source = calls.source
        self._attempts = Attempts(store, calls)
        self._leases: dict[int, Lease] = {}
        self._refusal: SourceRefused | None = None

    async def __aenter__(self) -> "Checks":
        self._keeper = LeaseKeeper(self._store, self._held, lambda: None)
        self._began = time.monotonic()
        await run_in_threadpool(self._store.sources.probe_now)
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._keeper.stop()
        if held := self._held():
            with suppress(CannotStore):  # then the leases run out
                await run_in_threadpool(self._store.jobs.give_back, held)

    async def attempt(self, check: Check) -> Outcome:
        """Attempt a check, whenever it is due; after a 429 a few times. Raises CannotStore."""

        async def once() -> None:
            error = await self._once(check)
            if error is not None:
                raise error

        try:
            await patiently(once)
        except FetchError as error:
            return error
        return None

    async def _once(self, check: Check) -> Outcome:
        while (lease := await self._claim(check)) is not None:
            self._leases[lease.job_id] = lease
            try:
                error = await self._attempts.attempt(lease)
            except LeaseLost:
                del self._leases[lease.job_id]
                continue
            del self._leases[lease.job_id]  # after any other error it is given back at the end
            if isinstance(error, SourceRefused):
                self._refusal = error
            return error
        return None

    async def _claim(self, check: Check) -> Lease | None:
        """Claim a check once it is free; None where another process has ended it.

        Raises SourceRefused where the sender refuses the account.
        """
        while self._refusal is None:
            claim = asyncio.create_task(run_in_threadpool(self._claim_now, check))
            try:
                leases = await asyncio.shield(claim)
            except asyncio.CancelledError:  # the claim goes on in its thread
                for lease in await claim:
                    self._leases[lease.job_id] = lease
                raise
            if leases:
                return leases[0]
            statuses = await run_in_threadpool(self._store.jobs.statuses, [check.job_id])
            if statuses.get(check.job_id) not in ("pending", "running"):
                return None
            await self._refuse_if_paused()
            await asyncio.sleep(LOOK_SECONDS)
        raise self._refusal

    def _claim_now(self, check: Check) -> list[Lease]:
        slots = self._source.settings.concurrency
        return self._store.jobs.claim_these(
            self._source.name, [check.job_id], limit=1, slots=slots, by="reconcile"
        )

    async def _refuse_if_paused(self) -> None:
        """Raise SourceRefused where the source stays paused, although its probe was made due."""
        if self._leases or time.monotonic() < self._began + PROBE_SECONDS:
            return
        for paused in await run_in_threadpool(self._store.sources.list_paused):
            if paused["source"] == self._source.name:
                raise SourceRefused(f"the source is paused: {paused['paused_reason']}")

    def _held(self) -> list[Lease]:
        return list(self._leases.values())
