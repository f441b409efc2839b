"""Runs as the sender shows them, compared with the stored ones, and stored where wanted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial

from starlette.concurrency import run_in_threadpool

from receiver.errors import FetchError, Missing, NotReady, RateLimited, Refused, SourceRefused
from receiver.work.reconcile.patience import patiently
from receiver.work.reconcile.report import Left
from receiver.work.verify.comparison import Difference, Kind, absent, compare
from receiver.work.verify.report import MOST, Report
from storage import TERMINAL, ComparedRun, FetchedRun, RunRow, Store

AT_ONCE = 8
"""Calls for single runs that are made at once."""

REPAIRED = (Kind.MISSING_HERE, Kind.STATE, Kind.CONTENT, Kind.NEWER_THERE)

Stored = dict[str, ComparedRun]
OwnCall = Callable[[str], Awaitable[FetchedRun]]


class Stopped(Exception):
    """The sender takes no further calls now: the rest cannot be compared."""


class Runs:
    """Compares runs of one source into a report; `repairs` stores what the sender shows."""

    def __init__(self, store: Store, source: str, report: Report, *, repairs: bool) -> None:
        self._store = store
        self._source = source
        self._report = report
        self._repairs = repairs

    async def stored(self, run_ids: Sequence[str]) -> Stored:
        """Return these runs as they are stored."""
        return await run_in_threadpool(self._store.runs.compared, self._source, run_ids)

    async def compare(
        self, runs: Sequence[FetchedRun], stored: Stored, batch_id: str | None, began: datetime
    ) -> None:
        """Compare runs that calls have shown which began at `began`."""
        chunks = await run_in_threadpool(self._store.results.rows_of, runs)
        rows = [row for chunk in chunks for row in chunk.rows]
        self._report.compared += len(rows)
        found = [(row, self._difference(row, stored.get(row.run.run_id), batch_id)) for row in rows]
        mended = [(row, each) for row, each in found if each is not None and self._mends(row, each)]
        if mended:
            await run_in_threadpool(
                lambda: self._store.runs.decide(
                    self._source, [row for row, _ in mended], fetched_at=began
                )
            )
        self._report.repaired += [each for _, each in mended][: MOST - len(self._report.repaired)]

    async def fetch(
        self,
        run_ids: Sequence[str],
        stored: Stored,
        batch_id: str | None,
        call: OwnCall,
    ) -> None:
        """Fetch runs by their own calls, and compare them; raises Stopped."""
        for start in range(0, len(run_ids), AT_ONCE):
            group = run_ids[start : start + AT_ONCE]
            began = self._store.now()
            answers = await asyncio.gather(
                *(patiently(partial(call, run_id)) for run_id in group),
                return_exceptions=True,
            )
            runs = [answer for answer in answers if isinstance(answer, FetchedRun)]
            await self.compare(runs, stored, batch_id, began)
            for run_id, answer in zip(group, answers, strict=True):
                if isinstance(answer, BaseException):
                    self._unanswered(run_id, answer, stored.get(run_id), batch_id)

    def _unanswered(
        self, run_id: str, error: BaseException, stored: ComparedRun | None, batch_id: str | None
    ) -> None:
        match error:
            case Missing() | Refused() if stored is not None:
                self._report.add(absent(run_id, stored, batch_id))
            case NotReady() if stored is not None and stored.result is None:
                self._report.going_on += 1
            case FetchError():
                self._report.incomplete.append(Left.after(f"run {run_id}", error))
                if isinstance(error, RateLimited | SourceRefused):
                    raise Stopped(str(error)) from error
            case _:
                raise error

    def _difference(
        self, row: RunRow, stored: ComparedRun | None, batch_id: str | None
    ) -> Difference | None:
        has_result = stored is not None and stored.result is not None
        if row.run.status in TERMINAL and not row.run.is_result and not has_result:
            why = f"it is {row.run.sender_status}, but its output is not there"
            self._report.incomplete.append(Left(f"run {row.run.run_id}", why))
            return None
        self._report.going_on += row.run.status not in TERMINAL and not has_result
        return compare(row, stored, batch_id)

    def _mends(self, row: RunRow, difference: Difference) -> bool:
        """Return True where a repair stores this run; else the difference is reported."""
        if self._repairs and difference.kind in REPAIRED and row.run.is_result:
            return True
        self._report.add(difference)
        return False
