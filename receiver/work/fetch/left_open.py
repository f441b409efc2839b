"""Runs that a listing left open, each fetched by its own call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from receiver.errors import Missing, Refused
from receiver.providers.model import Subject
from receiver.sender_api.calls import Calls
from receiver.sender_api.subjects import ask_first_that_knows
from storage import FetchedRun


def failed_of(runs: Sequence[FetchedRun]) -> dict[str, FetchedRun]:
    """Return by id the runs that have no output which another call could bring."""
    return {run.run_id: run for run in runs if run.status in ("failed", "cancelled")}


async def fetch_left_open(
    calls: Calls, run_id: str, batch: Subject, failed_runs: Mapping[str, FetchedRun]
) -> FetchedRun:
    """Fetch by its own call a run that a listing left open; raises FetchError.

    A failed run that has no such call is taken as the batch's status shows it.
    """
    try:
        return await ask_first_that_knows(calls, Subject("run", run_id, batch.task_id))
    except (Missing, Refused):
        if run_id not in failed_runs:
            raise
        return replace(failed_runs[run_id], is_whole=True)
