"""Completed runs whose output is not there yet."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from storage import FetchedRun, Lease

OUTPUT_MAY_BE_LATE = timedelta(minutes=15)
"""A completed run without an output is fetched again for so long before that is believed."""

FEWEST_LOOKS = 3
"""It must also have been seen without one at least so often, for a clock may jump."""

SEEN_WITHOUT_OUTPUT: Final = "seen_without_output"
"""Key of a job's progress: run id to when it was first seen so (ISO 8601), and how often."""


def with_output(run: FetchedRun, lease: Lease, *, now: datetime) -> FetchedRun:
    """Return the run, with `has_output` set once its missing output has to be believed.

    A sender whose parts agree late says "completed" first; taken at its word, the output would be
    lost for good. The time counts from the end by the sender's stamp or, where there is none, from
    when this job first saw the run so, which the job's progress keeps.
    """
    seen = lease.progress.get(SEEN_WITHOUT_OUTPUT, {})
    first, looks = seen.pop(run.run_id, (now.isoformat(), 0))
    if run.has_output or run.status != "completed":
        return run
    if run.completed_at is None:
        waited = now - datetime.fromisoformat(first)
    else:
        waited = min(now - lease.created_at, now - run.completed_at)
    if waited > OUTPUT_MAY_BE_LATE and looks + 1 >= FEWEST_LOOKS:
        return replace(run, has_output=True)
    seen[run.run_id] = first, looks + 1
    lease.progress[SEEN_WITHOUT_OUTPUT] = seen
    return run
