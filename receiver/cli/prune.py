"""resultsink prune: delete what has reached its age, or print what would go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from receiver.cli.opening import existing_store
from receiver.cli.options import AsJson
from receiver.cli.output import print_json, print_rows, progress_bar, say
from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.settings import Settings
    from storage import Ages, Step, Store

PAUSE_SECONDS = 0.01
TRIES = 10
"""Attempts at one step, a second apart, while another process holds the database."""


def _days(given: str | None) -> str | None:
    if given is None:
        return None
    from receiver.settings import days

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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing, print what would go.")
    ] = False,
    trust_clock: Annotated[
        bool,
        typer.Option("--trust-clock", help="Prune although nobody served for a day or more."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what is older than the settings or these options allow; a receiver may be serving.

    Example:
        resultsink prune --deliveries 30 --events 90 --dry-run
    """
    from receiver.settings import load
    from storage import AGE_OF, KINDS

    given = {
        "deliveries": deliveries,
        "attempts": attempts,
        "events": events,
        "results": results,
        "versions": versions,
    }
    settings = load()
    chosen, kept_for = _chosen(settings, given)
    with existing_store(settings) as store:
        if not (dry_run or trust_clock):
            _check_clock(store)
        rows = [
            {"kind": kind, "days": chosen[AGE_OF[kind]], **_walk(store, kind, kept_for, dry_run)}
            for kind in KINDS
        ]
    if as_json:
        print_json({"dry_run": dry_run, "kinds": rows})
    else:
        _print(rows, dry_run)


def _chosen(
    settings: Settings, given: Mapping[str, str | None]
) -> tuple[dict[str, float | None], Ages]:
    """Return the days that were given, or else set; and the ages that the store takes."""
    from receiver.settings import RetentionSettings, days
    from receiver.sources import configured
    from receiver.work.pruning import ages

    chosen = settings.retention.model_dump()
    chosen |= {name: days(value) for name, value in given.items() if value is not None}
    schemes = [source.scheme for source in configured(settings).values()]
    return chosen, ages(RetentionSettings(**chosen), schemes)


def _check_clock(store: Store) -> None:
    if store.retention.clock_may_be_ahead():
        raise UsageError(
            f"The clock may be ahead: it says {store.now():%Y-%m-%d %H:%M} UTC, a day or more "
            "after a worker served this database, or that was so within the last day. If the "
            "clock is right, say --trust-clock."
        )


def _walk(store: Store, kind: str, kept_for: Ages, dry_run: bool) -> dict[str, int]:
    """Prune all rows of a kind that are old enough."""
    rows = size = reached = 0
    with _bar(store, kind) as move:
        while True:
            began = time.monotonic()
            step = _step(store, kind, kept_for, after=reached, dry_run=dry_run)
            rows, size, reached = rows + step.rows, size + step.bytes, step.reached
            move(reached)
            if step.is_end:
                return {"rows": rows, "bytes": size}
            if step.rows and not dry_run:  # other processes write as well
                time.sleep(max(PAUSE_SECONDS, time.monotonic() - began))


def _step(store: Store, kind: str, kept_for: Ages, *, after: int, dry_run: bool) -> Step:
    """Prune one step, with retries while the database is busy.

    Raises CannotStore after the last; what earlier steps have pruned stays pruned.
    """
    from storage import CannotStore

    for _ in range(TRIES - 1):
        try:
            return store.retention.prune(kind, kept_for, after=after, dry_run=dry_run)
        except CannotStore:
            time.sleep(1)
    return store.retention.prune(kind, kept_for, after=after, dry_run=dry_run)


@contextmanager
def _bar(store: Store, kind: str) -> Iterator[Callable[[int], None]]:
    """Show a bar that is moved by the key that was reached."""
    first, last = store.retention.keys_of(kind)
    with progress_bar(in_percent=True) as progress:
        task = progress.add_task(kind, total=last - first + 1)
        yield lambda reached: progress.update(task, completed=max(0, reached - first + 1))


def _print(rows: Sequence[Mapping[str, Any]], dry_run: bool) -> None:
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
    say(f"{total:,} rows would go." if dry_run else f"{total:,} rows went.")
