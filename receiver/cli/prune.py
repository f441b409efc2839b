"""resultsink prune: let go of what is old now, or say what would go."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from receiver.app import open_store
from receiver.cli.options import AsJson
from receiver.cli.output import errors, print_json, print_rows
from receiver.errors import UsageError
from receiver.settings import RetentionSettings, days, load
from receiver.sources import configured
from receiver.work.pruning import ages
from storage import AGE_OF, KINDS, Ages, CannotStore, Step, Store

PAUSE_SECONDS = 0.01
TRIES = 10
"""How often a step is tried, a second apart, where somebody else holds the database."""


def _days(given: str | None) -> str | None:
    try:
        days(given)
    except ValueError as error:
        raise UsageError(f"{given!r} {error}.") from None
    return given


def _option(what: str) -> Any:
    return typer.Option(metavar="DAYS", help=f"{what}; or never.", callback=_days)


def prune(
    deliveries: Annotated[str | None, _option("Keep bodies of deliveries so long")] = None,
    attempts: Annotated[str | None, _option("Keep attempts so long")] = None,
    events: Annotated[str | None, _option("Keep events and ended jobs so long")] = None,
    results: Annotated[str | None, _option("Keep the content of results so long")] = None,
    versions: Annotated[str | None, _option("Keep superseded versions so long")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    trust_clock: Annotated[
        bool, typer.Option("--trust-clock", help="Although nobody has served for a day or more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let go of what is older than the settings say, or these options; beside a serving process."""
    given = {
        "deliveries": deliveries,
        "attempts": attempts,
        "events": events,
        "results": results,
        "versions": versions,
    }
    settings = load()
    chosen = settings.retention.model_dump()
    chosen |= {name: days(value) for name, value in given.items() if value is not None}
    schemes = [source.scheme for source in configured(settings).values()]
    kept_for = ages(RetentionSettings(**chosen), schemes)
    store = open_store(settings, create=False)
    try:
        if not (dry_run or trust_clock) and store.retention.clock_may_be_ahead():
            raise UsageError(
                f"The clock may be ahead: it says {store.now():%Y-%m-%d %H:%M} UTC, a day or more "
                "after a worker served this database, or that was so within the last day. If the "
                "clock is right, say --trust-clock."
            )
        rows = [
            {"kind": kind, "days": chosen[AGE_OF[kind]], **_walk(store, kind, kept_for, dry_run)}
            for kind in KINDS
        ]
    finally:
        store.close()
    if as_json:
        print_json({"dry_run": dry_run, "kinds": rows})
    else:
        _tell(rows, dry_run)


def _walk(store: Store, kind: str, kept_for: Ages, dry_run: bool) -> dict[str, int]:
    """Let go of all of a kind that is old enough."""
    rows = size = reached = 0
    with _bar(store, kind) as move:
        while True:
            began = time.monotonic()
            step = _step(store, kind, kept_for, after=reached, dry_run=dry_run)
            rows, size, reached = rows + step.rows, size + step.bytes, step.reached
            move(reached)
            if step.is_end:
                return {"rows": rows, "bytes": size}
            if step.rows and not dry_run:  # others want to write as well
                time.sleep(max(PAUSE_SECONDS, time.monotonic() - began))


def _step(store: Store, kind: str, kept_for: Ages, *, after: int, dry_run: bool) -> Step:
    """One step; patient where the database is busy. Raises CannotStore: what went stays gone."""
    for _ in range(TRIES - 1):
        try:
            return store.retention.prune(kind, kept_for, after=after, dry_run=dry_run)
        except CannotStore:
            time.sleep(1)
    return store.retention.prune(kind, kept_for, after=after, dry_run=dry_run)


@contextmanager
def _bar(store: Store, kind: str) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, drawn only where that is a terminal; moved by the key reached."""
    first, last = store.retention.keys_of(kind)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as progress:
        task = progress.add_task(kind, total=last - first + 1)
        yield lambda reached: progress.update(task, completed=max(0, reached - first + 1))


def _tell(rows: list[dict[str, Any]], dry_run: bool) -> None:
    shown = [
        {
            **row,
            "kept for": "ever" if row["days"] is None else f"{row['days']:g} days",
            "rows": f"{row['rows']:,}",
            "bytes": f"{row['bytes']:,}",
        }
        for row in rows
    ]
    print_rows(shown, ["kind", "kept for", "rows", "bytes"], nothing="")
    total = sum(row["rows"] for row in rows)
    errors.print(f"{total:,} rows would go." if dry_run else f"{total:,} rows went.")
