"""resultsink reconcile: look now for what never arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.opening import existing_store, run
from receiver.cli.options import AsJson, SourceName
from receiver.cli.output import counted, in_one_line, print_json, progress_bar, say
from receiver.errors import NotDone, UsageError

if TYPE_CHECKING:
    from receiver.settings import Settings
    from receiver.sources import Source
    from receiver.work.reconcile import Left, Report
    from storage import Store

SHOWN = 20
"""Things left that are printed for people; --json prints all."""


def reconcile(
    source: SourceName = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How far back to look at what is complete here, and in the sender's list.",
        ),
    ] = "7d",
    adopt: Annotated[
        str | None,
        typer.Option(metavar="BATCH_ID", help="Bring in this batch, which other code created."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="ID", help="The stored task of that batch (Parallel v0).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the senders now for what never arrived, and fetch it; exit 1 where anything is left.

    Every open batch, awaited run and endpoint is looked at, whatever its age, and the sender's own
    list of batches where it has one. A receiver may be serving.

    Example:
        resultsink reconcile --source valyu --since 2d
    """
    from receiver.cli.durations import duration
    from receiver.settings import load
    from receiver.telemetry.logs import for_command

    span = duration("--since", since)
    settings = load()
    if task is not None and adopt is None:
        raise UsageError("--task is the stored task of the batch in --adopt: give both.")
    with existing_store(settings) as store, for_command():
        if adopt is not None:
            source = source or _known_source(store, settings, adopt)
        chosen = askable(settings, source)
        if adopt is not None:
            _only(chosen, adopt)
        reports = [run(_one(store, settings, each, span, adopt, task)) for each in chosen]
    if as_json:
        print_json(
            {
                "is_complete": all(report.is_complete for report in reports),
                "sources": [{**asdict(r), "is_complete": r.is_complete} for r in reports],
            }
        )
    else:
        for report in reports:
            _print(report)
    if not all(report.is_complete for report in reports):
        raise typer.Exit(1)


def askable(settings: Settings, source: str | None) -> list[Source]:
    """Return this source, or all; raises UsageError where one of them cannot be asked.

    A call without an API key would pause the source for all processes, so none is made.
    """
    from receiver.sources import configured, named

    sources = configured(settings)
    chosen = list(sources.values()) if source is None else [named(sources, source)]
    if not chosen:
        raise UsageError("No source is configured: add [sources.valyu] to resultsink.toml.")
    for each in chosen:
        if each.settings.api_key is None:
            variable = f"RESULTSINK_SOURCES__{each.name.upper()}__API_KEY"
            raise UsageError(
                f"Source {each.name} cannot be asked without an api_key: set {variable}, or choose "
                "another with --source."
            )
    return chosen


def _only(sources: Sequence[Source], batch_id: str) -> None:
    """Raise UsageError unless it is clear whose batch to adopt, and its sender has batches."""
    from receiver.providers.capabilities.require import require_batches

    if len(sources) > 1:
        names = ", ".join(sorted(source.name for source in sources))
        raise UsageError(f"Say whose batch {batch_id} is: add --source ({names}).")
    require_batches(sources[0].provider)


def _known_source(store: Store, settings: Settings, batch_id: str) -> str | None:
    """Return whose batch this is by what is stored; None where that is not known, or not clear."""
    from receiver.sources import configured

    known = [
        name
        for name in configured(settings)
        if store.batches.watched(name, batch_id) is not None
        or store.endpoints.find_by_resource(name, batch_id) is not None
    ]
    return known[0] if len(known) == 1 else None


async def _one(
    store: Store,
    settings: Settings,
    source: Source,
    span: timedelta,
    adopt: str | None,
    task: str | None,
) -> Report:
    """Reconcile one source, or adopt one batch of it, with a bar that counts."""
    from receiver.errors import FetchError
    from receiver.sender_api.calls import Calls
    from receiver.sender_api.client_pool import clients_for
    from receiver.sender_api.rate_limit import rate_limiter_of
    from receiver.work.reconcile import Reconciliation

    async with clients_for(source) as client:
        calls = Calls(source, client, rate_limiter=rate_limiter_of(source, store))
        with progress_bar() as bar:
            task_id = bar.add_task(f"looking at {source.name}", total=None)
            reconciliation = Reconciliation(
                store,
                calls,
                settings.public_url,
                looked=lambda report: bar.update(task_id, completed=report.looked),
            )
            if adopt is None:
                return await reconciliation.run(since=store.now() - span)
            try:
                return await reconciliation.adopt(adopt, task_id=task)
            except FetchError as error:
                hint = "; or add --task here" if source.provider.below_tasks and not task else ""
                raise NotDone(f"{adopt} was not adopted: {error}{hint}.") from error


def _print(report: Report) -> None:
    """Print one sentence of figures, then what is left."""
    parts = [
        f"{report.looked} looked at",
        f"{counted(report.found, 'run')} found",
        f"{counted(report.fetched, 'result')} fetched",
        *([f"adopted {', '.join(report.adopted)}"] if report.adopted else []),
        *([f"{report.going_on} going on at the sender"] if report.going_on else []),
        *([_unbound(report.unbound)] if report.unbound else []),
    ]
    typer.echo(f"{report.source}: {', '.join(parts)} ({counted(report.calls, 'call')}).")
    for note in report.notes:
        say(f"{report.source}: {note}.")
    print_left(report.source, report.incomplete, "reconcile")


def _unbound(count: int) -> str:
    its = "waits for what it is for" if count == 1 else "wait for what they are for"
    return f"{counted(count, 'endpoint')} {its}"


def print_left(source: str, incomplete: Sequence[Left], command: str) -> None:
    """Say what could not be looked at to its end, why, and how to go on."""
    for left in incomplete[:SHOWN]:
        why = in_one_line(left.why).rstrip(".")
        say(f"{source}: incomplete: {in_one_line(left.what)}: {why}.")
    if len(incomplete) > SHOWN:
        say(f"{source}: and {len(incomplete) - SHOWN} more: see --json.")
    if incomplete:
        say(
            f"{source}: not everything could be looked at. Once that is mended, the same command "
            f"goes on: resultsink {command} --source {source}"
        )
