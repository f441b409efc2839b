"""resultsink export: stored results as a file or a stream."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from receiver.cli.export.scope import Wanted, scope_of
from receiver.cli.export.target import target
from receiver.cli.opening import existing_store
from receiver.cli.output import say
from receiver.errors import UsageError


class Format(StrEnum):
    """Formats of an export."""

    csv = "csv"
    json = "json"
    jsonl = "jsonl"


class Status(StrEnum):
    """Results that an export may be limited to."""

    all = "all"
    completed = "completed"
    failed = "failed"


def export(
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="BATCH", help="The results of this batch: its id, its name, or a beginning."
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="The result of this run alone.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="All results of this source, or whose batch or run it is.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All results of all sources.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.csv,
    output: Annotated[Path | None, typer.Option(help="A file; standard output without.")] = None,
    status: Annotated[Status, typer.Option(help="Which results.")] = Status.all,
    details: Annotated[
        bool, typer.Option("--details", help="Add CSV columns for error, cost and times.")
    ] = False,
    bom: Annotated[
        bool, typer.Option("--bom", help="Begin the CSV with a byte order mark, for Excel.")
    ] = False,
    formula_guard: Annotated[
        bool, typer.Option(help="Quote CSV text that a spreadsheet would run.")
    ] = True,
) -> None:
    """Write stored results, and say so where they are not complete.

    Example:
        resultsink export --batch storage --output results.csv
        resultsink export --source valyu --format jsonl | gzip > results.jsonl.gz
    """
    from receiver.settings import load
    from storage import CsvOptions

    wanted = Wanted(batch=batch, run=run, source=source, everything=everything)
    wanted.check()
    if bom and format_ is not Format.csv:
        raise UsageError(f"Leave out --bom: it is for CSV, and {format_} must not have one.")
    settings = load()
    options = CsvOptions(formula_guard=formula_guard, details=details, byte_order_mark=bom)
    with existing_store(settings) as store:
        scope = scope_of(store, settings, wanted, status.value)
        replaced = output is not None and output.exists()
        with target(output) as out:
            report = store.export.write(scope.selection, format_.value, out, csv=options)
        pruned = store.export.count_pruned(scope.selection)
    _report(report.rows, output, replaced=replaced)
    if pruned:
        say(f"{pruned} more are left out: their content was pruned for its age.")
    for sentence in scope.lacks:
        say(sentence)


def _report(rows: int, output: Path | None, *, replaced: bool) -> None:
    what = "1 result" if rows == 1 else f"{rows} results"
    where = f" to {output}" if output else ""
    say(f"{what} written{where}{', in place of the file that was there' if replaced else ''}.")
