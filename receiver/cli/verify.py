"""resultsink verify: compare the store with the senders' APIs, and repair it where wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from receiver.cli.opening import existing_store, run
from receiver.cli.options import AsJson, SourceName
from receiver.cli.output import counted, print_json, print_rows, progress_bar, say
from receiver.cli.reconcile import askable, print_left
from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.sources import Source
    from receiver.work.verify import Difference, Report
    from storage import Store

SHOWN = 100
"""Runs that differ that are printed for people; --json prints all."""


def verify(
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="This batch alone.")] = None,
    source: SourceName = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything of every source.")] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Store what the sender shows, as new versions; then again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare what is stored with what the sender shows, run by run; exit 1 where it differs.

    A batch costs the calls that fetching it costs, a single run costs one. Results that were pruned
    here or are gone there are named, and do not count as a difference.

    Example:
        resultsink verify --batch storage
        resultsink verify --source valyu --repair
    """
    from receiver.settings import load
    from receiver.telemetry.logs import for_command

    if (batch is not None or source is not None) is all_:
        raise UsageError("Say what to compare: --batch ID, --source SOURCE, or --all.")
    settings = load()
    with existing_store(settings) as store, for_command():
        if batch is not None:
            ledger = store.batches.resolve(batch, source=source)
            batch, source = ledger.batch_id, ledger.source
        chosen = askable(settings, source)
        reports = [run(_one(store, each, batch, repairs=repair)) for each in chosen]
    if as_json:
        print_json({"is_same": _are_same(reports), "sources": [_plain(each) for each in reports]})
    else:
        for report in reports:
            _print(report)
    if not _are_same(reports):
        raise typer.Exit(1)


def _are_same(reports: Sequence[Report]) -> bool:
    return all(report.is_same for report in reports)


async def _one(store: Store, source: Source, batch: str | None, *, repairs: bool) -> Report:
    """Verify one source, or one batch of it, with a bar that counts."""
    from receiver.sender_api.calls import Calls
    from receiver.sender_api.client_pool import clients_for
    from receiver.sender_api.rate_limit import rate_limiter_of
    from receiver.work.verify import Verification

    async with clients_for(source) as client:
        calls = Calls(source, client, rate_limiter=rate_limiter_of(source, store))
        with progress_bar() as bar:
            task = bar.add_task(f"comparing {source.name}", total=None)

            def compared(report: Report) -> None:
                bar.update(task, completed=report.compared)

            verification = Verification(store, calls, repairs=repairs, compared=compared)
            if batch is not None:
                return await verification.batch(batch)
            return await verification.all()


def _plain(report: Report) -> dict[str, Any]:
    return {**asdict(report), "is_same": report.is_same}


def _print(report: Report) -> None:
    """Print one sentence of figures, the runs that differ, and what could not be compared."""
    parts = [
        f"{counted(report.compared, 'run')} compared",
        f"{report.drifted} {'differs' if report.drifted == 1 else 'differ'}",
        *([f"{len(report.repaired)} repaired"] if report.repaired else []),
        *([f"{report.going_on} going on"] if report.going_on else []),
        *([f"{len(report.not_comparable)} not comparable"] if report.not_comparable else []),
    ]
    typer.echo(f"{report.source}: {', '.join(parts)} ({counted(report.calls, 'call')}).")
    _print_runs("repaired:", report.repaired, len(report.repaired))
    _print_runs("differ:", report.drift, report.drifted)
    _print_runs("not comparable:", report.not_comparable, len(report.not_comparable))
    if report.drift:
        say("To store what the sender shows: the same command with --repair")
    print_left(report.source, report.incomplete, "verify")


def _print_runs(title: str, runs: Sequence[Difference], count: int) -> None:
    if not runs:
        return
    typer.echo(f"\n{title}")
    rows = [asdict(each) for each in runs[:SHOWN]]
    print_rows(rows, ["kind", "run_id", "batch_id", "here", "there"], nothing="")
    if count > SHOWN:
        typer.echo(f"and {count - SHOWN} more: see --json")
