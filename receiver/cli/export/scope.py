"""The scope of an export: a batch, a run, a source or all, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.settings import Settings
    from storage import Gaps, Ledger, RunFacts, Selection, Store

Status = Literal["all", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The scope that the user asked for; the fields that are not None narrow it."""

    batch: str | None
    run: str | None
    source: str | None
    everything: bool

    def check(self) -> None:
        """Raise UsageError unless exactly one thing is asked for."""
        if self.batch is not None and self.run is not None:
            raise UsageError("Say --batch or --run, not both: a run is exported by its own id.")
        if self.everything and (self.batch or self.run or self.source):
            raise UsageError("Leave out --all to export a part: --all is every source.")
        if not (self.batch or self.run or self.source or self.everything):
            raise UsageError("Say what to export: --batch ID, --run ID, --source SOURCE, or --all.")


@dataclass(frozen=True, slots=True)
class Scope:
    """The selection of an export, and the sentences on what it lacks.

    Both are read before the results, so that nothing that is stored later makes an export look
    complete.
    """

    selection: Selection
    lacks: list[str]


def scope_of(store: Store, settings: Settings, wanted: Wanted, status: Status) -> Scope:
    """Return the scope of an export; raises UsageError and NotFound, for nothing of that name."""
    from storage import Selection

    if wanted.batch is not None:
        ledger = store.batches.resolve(wanted.batch, source=wanted.source)
        return Scope(
            Selection(source=ledger.source, batch_id=ledger.batch_id, status=status),
            [] if ledger.state == "complete" else [_open(ledger)],
        )
    if wanted.run is not None:
        facts, _ = store.runs.show(wanted.run, source=wanted.source)
        return Scope(
            Selection(source=facts["source"], run_id=wanted.run, status=status),
            [] if facts["result_status"] else [_without_result(facts)],
        )
    sources = store.export.sources()
    if wanted.source is not None:
        sources = [wanted.source]
        _check_source(store, settings, wanted.source)
    lacks = list(_gaps(store.export.gaps(sources)))
    return Scope(Selection(source=wanted.source, status=status), lacks)


def _check_source(store: Store, settings: Settings, source: str) -> None:
    """Raise UsageError for a source that is neither configured nor known to the store."""
    from receiver.sources import configured, named

    if source not in store.export.sources():
        named(configured(settings), source)


def _gaps(gaps: Gaps) -> Iterator[str]:
    yield from map(_open, gaps.batches)
    if more := gaps.open_batches - len(gaps.batches):
        yield f"{more} more batches are not complete (see `batch list`)."
    for source, count in gaps.outstanding.items():
        runs = "1 single run has" if count == 1 else f"{count} single runs have"
        yield (
            f"Source {source} is not complete: {runs} no result "
            "(see `endpoint list` and `dead list`)."
        )


def _open(ledger: Ledger) -> str:
    return (
        f"Batch {ledger.batch_id} is not complete: "
        f"{ledger.stored} of {ledger.expected} results are stored."
    )


def _without_result(facts: RunFacts) -> str:
    status = facts["sender_status"] or facts["status"]
    return f"Run {facts['run_id']} has no result yet: the sender's last word is {status}."
