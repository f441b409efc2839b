"""One try at bringing in what an event announced, or what a check expects.

The webhook is a hint: the resource is asked for by id, page by page, each page in a transaction
of its own together with how far we are. Complete is what ids and counts say, never has_more.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from receiver.calls import AnswerTooLarge, Calls
from receiver.errors import FetchError, Forbidden, Missing, NotReady, Refused, Unavailable
from receiver.logs import get_logger
from receiver.providers import Page
from storage import EndpointView, FetchedBatch, FetchedRun, Lease, Ledger, NotFound, Store, now

T = TypeVar("T")

log = get_logger("fetch")

MAX_RESTARTS = 3
"""How often one try begins a listing anew because its cursor was refused."""

OUTPUT_MAY_BE_LATE = timedelta(minutes=15)
"""How long a completed run without an output is asked for again before it is believed."""

MAX_PAGES = 10_000
"""Pages listed in one try; a sender that always has another key would be followed for ever."""

RUNS_AT_ONCE = 8
"""Runs that a listing left open are asked for in groups of this size."""


class Fetch:
    """Brings in what one source's leases name."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._store = store
        self._calls = calls
        self._provider = calls.source.provider

    async def fetch(self, lease: Lease) -> str:
        """Do what the job asks; returns one sentence once it is done.

        Raises NotReady while something is missing, another FetchError where a call failed, and
        LeaseLost when the job is somebody else's by now. What was stored on the way stays.
        """
        endpoint = await self._endpoint_of(lease)
        try:
            if lease.subject_kind == "batch":
                return await self._fetch_batch(lease, endpoint)
            return await self._fetch_run(lease, endpoint)
        except Forbidden as error:
            if await self._is_account_welcome():
                raise Refused(f"this alone is refused: {error}") from error
            raise

    async def _endpoint_of(self, lease: Lease) -> EndpointView | None:
        if lease.endpoint_id is None:
            return None
        return await self._in_thread(self._store.find_endpoint, lease.endpoint_id)

    async def _is_account_welcome(self) -> bool:
        """A 403 may speak of the account or of one resource: another call tells which."""
        try:
            await self._calls.call(self._provider.batches())
        except FetchError:
            return False
        return True

    # --- a single run --------------------------------------------------------------------------

    async def _fetch_run(self, lease: Lease, endpoint: EndpointView | None) -> str:
        run_id = lease.subject or (endpoint and endpoint.resource)
        if not run_id:
            raise NotReady("it is not known yet which run this endpoint is for")
        began = now()
        run = _with_output(await self._run(run_id), lease)
        _refuse_a_stranger(endpoint, run)
        await self._bind(endpoint, run_id)
        await self._keep(lease, [run], began)
        if run.is_result:
            await self._end_checks(lease)
            return f"run {run.status}"
        if not lease.progress.get("awaits_end", True):
            return f"run is {run.sender_status}"
        missing = ", but its output is not there" if run.status == "completed" else ""
        raise NotReady(f"run is {run.sender_status}{missing}")

    async def _end_checks(self, lease: Lease) -> None:
        """A run's own endpoint has nothing more to wait for; a batch's endpoint may have.

        So may one that was bound to another run meanwhile.
        """
        endpoint = await self._endpoint_of(lease)
        if endpoint is None or endpoint.kind == "batch" or lease.kind == "check":
            return
        if endpoint.resource in (None, lease.subject):
            await self._in_thread(self._store.end_checks, endpoint.id)

    # --- a batch -------------------------------------------------------------------------------

    async def _fetch_batch(self, lease: Lease, endpoint: EndpointView | None) -> str:
        batch_id = lease.subject or (endpoint and endpoint.resource)
        if not batch_id:
            batch_id = await self._find_by_our_url(lease)
        batch = self._provider.read_batch(
            await self._calls.call(self._provider.batch(batch_id)), batch_id
        )
        _refuse_another_url(endpoint, batch)
        await self._bind(endpoint, batch_id)
        ledger: Ledger = await self._in_thread(self._store.save_batch, lease, batch)
        if batch.is_terminal or (batch.ended or 0) > ledger.stored:
            await self._list(lease, batch)
            if batch.is_terminal:
                await self._ask_for_the_rest(lease, batch)
            del lease.progress["listing"]
            ledger = await self._in_thread(self._store.settle_batch, lease, batch)
        said = f"{ledger.stored} of {ledger.expected} results stored"
        if ledger.state == "complete" or not lease.progress.get("awaits_end", True):
            return said
        raise NotReady(f"{said}, batch is {batch.sender_status}")

    async def _list(self, lease: Lease, batch: FetchedBatch) -> None:
        """Store page after page, from where the job stood."""
        listing = lease.progress.setdefault("listing", {})
        if listing.get("cursor") is None:
            listing.update(since=now().isoformat(), listed=0, cursor=None)
        listing["restarts"] = 0
        seen: set[str] = set()
        while True:
            began = now()
            page = await self._page(lease, batch)
            if listing["cursor"] is None:
                seen.clear()  # this was page one, perhaps again: its cursors come again too
            listing["listed"] += len(page.runs)
            short = batch.total is None or listing["listed"] < batch.total
            goes_on = bool(page.cursor) and page.cursor not in seen and (page.has_more or short)
            goes_on = goes_on and len(seen) < MAX_PAGES
            listing["cursor"] = page.cursor if goes_on else None
            seen.add(page.cursor or "")
            await self._keep(lease, page.runs, began)
            if not goes_on:
                return

    async def _page(self, lease: Lease, batch: FetchedBatch) -> Page:
        """One page; from page one again when the cursor is refused, smaller when too large."""
        listing = lease.progress["listing"]
        while True:
            size = listing.get("size", self._provider.page_size) or None
            request = self._provider.page(batch.batch_id, cursor=listing["cursor"], size=size)
            try:
                return self._provider.read_page(await self._calls.call(request), batch)
            except AnswerTooLarge:
                smaller = (size or listing.get("refused", self._provider.page_size)) // 2
                if smaller == 0:
                    raise
                listing["size"] = smaller
            except (Refused, Missing) as error:
                if listing["cursor"] is not None:
                    _begin_again(listing, error)
                elif size is not None and isinstance(error, Refused):
                    # nobody says which sizes it takes: its own, then
                    listing.update(size=0, refused=size)
                else:
                    raise

    async def _ask_for_the_rest(self, lease: Lease, batch: FetchedBatch) -> None:
        """Ask one by one for runs that the listing forgot, or ended without their output."""
        since = datetime.fromisoformat(lease.progress["listing"]["since"])
        failed: list[FetchError] = []
        asked: set[str] = set()
        while True:
            left = await self._in_thread(
                lambda: self._store.unseen_runs(
                    lease.source, batch.batch_id, since=since, limit=RUNS_AT_ONCE + len(asked)
                )
            )
            group = [run_id for run_id in left if run_id not in asked][:RUNS_AT_ONCE]
            if not group:
                break
            asked.update(group)
            began = now()
            told = await asyncio.gather(*map(self._run, group), return_exceptions=True)
            runs = [_with_output(run, lease) for run in told if isinstance(run, FetchedRun)]
            mine = [run for run in runs if run.batch_id in (None, batch.batch_id)]
            await self._keep(lease, mine, began)
            for error in told:
                if isinstance(error, FetchError):
                    failed.append(error)
                elif isinstance(error, BaseException):
                    raise error
        if failed:
            raise min(failed, key=_hopelessness)

    async def _find_by_our_url(self, lease: Lease) -> str:
        """The create call's answer was lost: look for our URL among the sender's batches."""
        data = await self._calls.call(self._provider.batches())
        for batch in self._provider.read_batches(data):
            if _is_ours(batch.webhook_url, lease.endpoint_id):
                return batch.batch_id
        raise NotReady("no batch of the sender names this endpoint yet")

    async def _bind(self, endpoint: EndpointView | None, resource: str) -> None:
        """Bind an endpoint to what it announced first, now that the API knows it too.

        One that was closed or bound meanwhile stays as it is: what was acknowledged is fetched.
        """
        if endpoint is None or endpoint.resource is not None or endpoint.state == "closed":
            return
        with contextlib.suppress(NotFound):
            await self._in_thread(self._store.bind_endpoint, endpoint.id, resource)

    async def use_what_was_carried(self, lease: Lease) -> bool:
        """Store what the signed body of a forgotten run carried, marked as such; or say False."""
        if lease.event_id is None or lease.subject is None or lease.subject_kind == "batch":
            return False
        body = await self._in_thread(self._store.carried_body, lease.event_id)
        run = None if body is None else self._provider.read_carried(body, lease.subject)
        endpoint = await self._endpoint_of(lease)
        if run is None or not await self._in_thread(self._may_speak_for, endpoint, lease):
            return False
        await self._in_thread(
            lambda: self._store.store_results(
                lease,
                [replace(run, batch_id=None)],  # what a body says of its batch proves nothing
                fetched_at=lease.created_at,
                progress=lease.progress,
                origin="delivery",
            )
        )
        await self._end_checks(lease)
        return True

    def _may_speak_for(self, endpoint: EndpointView | None, lease: Lease) -> bool:
        """Whether an endpoint may tell of a run that the API can no longer say anything about.

        The account may, a run's own endpoint may of that run, and a batch's endpoint of runs that
        we know to be of that batch; never where there is a result already.
        """
        if lease.subject is None or self._store.has_result(lease.source, lease.subject):
            return False
        if endpoint is None:
            return True
        if endpoint.kind != "batch":
            return endpoint.resource == lease.subject
        return endpoint.resource is not None and self._store.is_run_of(
            lease.source, lease.subject, endpoint.resource
        )

    # --- inside --------------------------------------------------------------------------------

    async def _run(self, run_id: str) -> FetchedRun:
        return self._provider.read_run(await self._calls.call(self._provider.run(run_id)), run_id)

    async def _keep(self, lease: Lease, runs: Sequence[FetchedRun], fetched_at: datetime) -> None:
        stored = await self._in_thread(
            lambda: self._store.store_results(
                lease, runs, fetched_at=fetched_at, progress=lease.progress
            )
        )
        log.info(
            "results stored",
            source=lease.source,
            job=lease.job_id,
            new=stored.new,
            versions=stored.versions,
            unchanged=stored.unchanged,
        )

    @staticmethod
    async def _in_thread(work: Callable[..., T], *args: Any) -> T:
        return await run_in_threadpool(work, *args)


def _refuse_a_stranger(endpoint: EndpointView | None, run: FetchedRun) -> None:
    """A run announced at a batch's endpoint must belong to that batch, says the API."""
    if endpoint is None or endpoint.kind != "batch":
        return
    if endpoint.resource is None:
        raise NotReady("it is not known yet which batch this endpoint is for")
    if run.batch_id != endpoint.resource:
        raise Refused(f"run {run.run_id} is not of the batch of this endpoint")


def _refuse_another_url(endpoint: EndpointView | None, batch: FetchedBatch) -> None:
    """An endpoint that is not bound yet is bound to no batch that names another URL."""
    if endpoint is None or endpoint.resource is not None or batch.webhook_url is None:
        return
    if not _is_ours(batch.webhook_url, endpoint.id):
        raise Refused(f"batch {batch.batch_id} names another webhook URL than this endpoint's")


def _with_output(run: FetchedRun, lease: Lease) -> FetchedRun:
    """Believe that a completed run has no output only after a while.

    A sender whose parts agree late says "completed" first; taken at its word, the output would be
    lost for good.
    """
    if run.has_output or run.status != "completed":
        return run
    moment = now()
    ended = run.completed_at or lease.created_at
    patient = min(moment - lease.created_at, moment - ended) > OUTPUT_MAY_BE_LATE
    return replace(run, has_output=True) if patient else run


def _hopelessness(error: FetchError) -> int:
    """How little trying again can help: one refused run must not bury what the others need."""
    return {Refused: 3, Forbidden: 2, Missing: 1}.get(type(error), 0)


def _begin_again(listing: dict[str, Any], error: FetchError) -> None:
    if listing["restarts"] >= MAX_RESTARTS:
        raise Unavailable(f"the page cursor is refused again and again: {error}") from error
    listing.update(cursor=None, listed=0, restarts=listing["restarts"] + 1)


def _is_ours(url: str | None, endpoint_id: str | None) -> bool:
    return bool(url and endpoint_id) and str(url).rstrip("/").endswith(f"/{endpoint_id}")
