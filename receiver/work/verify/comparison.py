"""Comparison of one run: as the sender shows it, and as it is stored. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from storage import TERMINAL, UNTYPED, ComparedRun, FetchedRun, RunRow

NO_RESULT = "no result"
"""What is here of a run whose result is not."""


class Kind(StrEnum):
    """A difference between a stored run and the sender's."""

    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"
    STATE = "state differs"
    CONTENT = "content differs"
    NEWER_THERE = "newer there"
    PRUNED_HERE = "pruned here"
    GONE_THERE = "gone there"

    @property
    def is_drift(self) -> bool:
        """False where there is nothing to compare with, which is to be expected with age."""
        return self not in (Kind.PRUNED_HERE, Kind.GONE_THERE)


@dataclass(frozen=True, slots=True)
class Difference:
    """A run that differs; `here` and `there` are its statuses, None where it is unknown.

    `here` is NO_RESULT for a run that is known without one.
    """

    batch_id: str | None
    run_id: str
    kind: Kind
    here: str | None
    there: str | None


def needs_own_call(run: FetchedRun, stored: ComparedRun | None) -> bool:
    """Return True where a listing shows too little of an ended run to compare it."""
    if run.status not in TERMINAL:
        return False
    if not run.is_result:
        return True
    if stored is None or stored.result is None:
        return False
    return (run.output_type == UNTYPED) != (stored.output_type == UNTYPED)


def compare(row: RunRow, stored: ComparedRun | None, batch_id: str | None) -> Difference | None:
    """Return how a run that the sender shows differs from the stored one, or None."""
    kind = _kind(row, stored)
    if kind is None:
        return None
    here = None if stored is None else _here(stored, row.run.status)
    return Difference(batch_id, row.run.run_id, kind, here, row.run.sender_status)


def absent(run_id: str, stored: ComparedRun, batch_id: str | None) -> Difference:
    """Return the difference of a stored run that the sender does not know.

    A result that is here was there once; a run without one never may have been.
    """
    kind = Kind.MISSING_THERE if stored.result is None else Kind.GONE_THERE
    return Difference(batch_id, run_id, kind, stored.result or NO_RESULT, None)


def _here(stored: ComparedRun, there: str) -> str:
    """Return the status that differs: that of the result or, where that agrees, of the run."""
    if stored.result is None:
        return NO_RESULT
    return stored.status if stored.result == there else stored.result


def _kind(row: RunRow, stored: ComparedRun | None) -> Kind | None:
    run = row.run
    if run.status not in TERMINAL:
        return Kind.STATE if stored is not None and stored.result is not None else None
    if stored is None or stored.result is None:
        return Kind.MISSING_HERE
    if stored.pruned_at is not None:
        return Kind.PRUNED_HERE
    if run.status != stored.result or run.status != stored.status:
        return Kind.STATE
    if stored.digest == row.digest:
        return None
    if not run.is_result:
        return Kind.GONE_THERE
    stamps = run.completed_at, stored.completed_at
    if stamps[0] is not None and stamps[1] is not None and stamps[0] > stamps[1]:
        return Kind.NEWER_THERE
    return Kind.CONTENT
