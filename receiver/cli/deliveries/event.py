"""resultsink event: list the events, show one with its deliveries, jobs and attempts; replay."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from receiver.cli.help import Commands
from receiver.cli.opening import existing_store
from receiver.cli.options import MAX_ID, AsJson, Id, Limit, SourceName
from receiver.cli.output import (
    counted,
    counting,
    harmless,
    in_one_line,
    print_json,
    print_list,
    print_rows,
    say,
)
from receiver.errors import UsageError

if TYPE_CHECKING:
    from storage import EventFilter, Matching, Store

app = Commands(help="Events: what the senders announced.")


@app.command("list")
def list_(source: SourceName = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the newest events, with how often each was delivered.

    Example:
        resultsink event list --source valyu --limit 20
    """
    with existing_store() as store:
        rows = store.events.list_newest(source=source, limit=limit)
    columns = ["id", "received_at", "source", "key", "disposition", "deliveries", "jobs"]
    print_list(rows, columns, nothing="There are no events yet.", as_json=as_json)


@app.command()
def show(event_id: Id, as_json: AsJson = False) -> None:
    """Print one event with its deliveries as received, its jobs, and every attempt.

    Example:
        resultsink event show 12
    """
    with existing_store() as store:
        event = store.events.show(event_id)
    if as_json:
        print_json(_without_bytes(event))
        return
    for name in ("id", "source", "endpoint_id", "key", "disposition", "received_at"):
        typer.echo(f"{name.replace('_', ' '):>12}  {in_one_line(event[name])}")
    for delivery in event["deliveries"]:
        again = f", {delivery['copies']} times again" if delivery["copies"] else ""
        typer.echo(f"\ndelivery {delivery['id']}, {in_one_line(delivery['received_at'])}{again}")
        typer.echo(harmless(delivery["headers"].rstrip()))
        typer.echo(harmless(_as_text(delivery["body"])))
    for job in event["jobs"]:
        reason = f": {in_one_line(job['reason'])}" if job["reason"] else ""
        typer.echo(f"\njob {job['id']} ({job['kind']} {job['subject']}) is {job['status']}{reason}")
        for attempt in event["attempts"]:
            if attempt["job_id"] == job["id"]:
                at = in_one_line(attempt["started_at"])
                ms = f"{attempt['milliseconds']:.0f} ms"
                detail = in_one_line(attempt["detail"])
                typer.echo(f"  {at}  {ms:>8}  {attempt['outcome']}: {detail}")


def _without_bytes(event: Mapping[str, Any]) -> dict[str, object]:
    """Return an event with bodies as text and digests in hexadecimal."""
    deliveries = [
        {**each, "digest": each["digest"].hex(), "body": _as_text(each["body"])}
        for each in event["deliveries"]
    ]
    return {**event, "key_digest": event["key_digest"].hex(), "deliveries": deliveries}


def _as_text(body: bytes) -> str:
    """Decode a body; bytes that are not UTF-8 become escapes."""
    return body.decode("utf-8", "backslashreplace")


SAMPLE = 5
"""Events that are shown before the question."""

IDS_AT_MOST = 1_000


class Status(StrEnum):
    """Status of the newest job of an event."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    ABANDONED = "abandoned"


@app.command()
def replay(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="These events.", min=1, max=MAX_ID),
    ] = None,
    source: SourceName = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Events since then: 2h (ago), or a moment.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Events before then: 30m (ago), or a moment.")
    ] = None,
    status: Annotated[
        Status | None, typer.Option(metavar="STATUS", help="dead, done, abandoned and so on.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="What was announced: batch, task, run.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", help="Events of this batch and its runs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them alone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Work on events again, from what is stored of them: the results are fetched once more.

    Says how many match before it asks. What is stored already is not stored twice.

    Example:
        resultsink event replay --source valyu --since 2h --status dead
    """
    from receiver.cli.durations import ago
    from storage import EventFilter

    if len(ids or ()) > IDS_AT_MOST:
        raise UsageError(f"These are too many ids: {IDS_AT_MOST} at most, or choose by --since.")
    if not any((ids, source, since, until, status, kind, batch)):
        raise UsageError("Say which events: IDs, or a filter such as --source, --since, --status.")
    with existing_store() as store:
        now = store.now()
        if batch is not None:
            ledger = store.batches.resolve(batch, source=source)
            batch, source = ledger.batch_id, ledger.source
        wanted = EventFilter(
            ids=tuple(ids or ()),
            source=source,
            since=None if since is None else ago("--since", since, now=now),
            until=ago("--until", until, now=now) if until is not None else None,
            status=status,
            kind=kind,
            batch_id=batch,
        )
        _replay(store, wanted, dry_run=dry_run, yes=yes, as_json=as_json)


def _replay(store: Store, wanted: EventFilter, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    matching = store.replays.count(wanted)
    count = matching.replayable
    if not as_json:
        _print_matching(store, wanted, matching)
    replayed = 0
    if count and not dry_run:
        _confirm(count, yes=yes)
        with counting("replaying", total=count) as bar:
            for chunk in store.replays.replay(wanted):
                replayed += chunk
                bar(replayed)
        store.hint()
    if as_json:
        print_json({**matching._asdict(), "replayed": replayed, "dry_run": dry_run})
    elif count and not dry_run:
        waits = "waits" if replayed == 1 else "wait"
        say(f"{counted(replayed, 'event')} {waits} to be worked on again.")


def _print_matching(store: Store, wanted: EventFilter, matching: Matching) -> None:
    count = matching.replayable
    matches = "matches" if count == 1 else "match"
    say(f"{counted(count, 'event')} {matches}{':' if count else '.'}")
    if matching.waiting:
        how = "is worked on, or waits" if matching.waiting == 1 else "are worked on, or wait"
        say(f"{matching.waiting} more {how} for it: left alone.")
    if matching.unusable:
        names = "names" if matching.unusable == 1 else "name"
        say(f"{matching.unusable} more {names} nothing that could be fetched: see `event show`.")
    if not count:
        return
    rows = store.replays.newest(wanted, limit=SAMPLE)
    columns = ["id", "received_at", "source", "subject_kind", "subject", "status", "reason"]
    print_rows(rows, columns, nothing="")
    if count > SAMPLE:
        say(f"... and {counted(count - SAMPLE, 'older one')}.")


def _confirm(count: int, *, yes: bool) -> None:
    """Ask on a terminal; raises UsageError where nobody can answer, and exits where one says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        were = f"{counted(count, 'event')} {'was' if count == 1 else 'were'}"
        raise UsageError(f"{were} not replayed: nobody can be asked here, add --yes.")
    if not typer.confirm(f"Replay {counted(count, 'event')}?", err=True):
        say("Nothing was replayed.")
        raise typer.Exit(1)
