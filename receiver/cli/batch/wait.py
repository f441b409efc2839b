"""resultsink batch wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.batch.report import DeadLetters, outcome, reasons, say_if_paused
from receiver.cli.opening import batches_of, existing_store, run
from receiver.cli.options import AsJson, SourceName, Timeout
from receiver.cli.output import print_json, progress_bar, say, say_unread

if TYPE_CHECKING:
    from receiver.settings import Settings
    from receiver.submissions.batches import BatchSubmissions
    from storage import Ledger, Store


def wait(
    batch_id: Annotated[str, typer.Argument(help="The batch to wait for.")],
    timeout: Timeout = None,
    fail: Annotated[bool, typer.Option("--fail", help="Exit 1 if any run failed.")] = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Return when all results of a batch are stored."""
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        ledger = store.batches.ledger(batch_id, source=source)
        if not store.is_served():
            say("No receiver serves this database now: start `resultsink serve`.")
        say_if_paused(store, ledger)
        ledger = run(_wait(store, settings, ledger, timeout))
        found = store.batches.missing(ledger)
    if as_json:
        print_json({**ledger.as_dict(), **found})
    else:
        typer.echo(outcome(ledger))
        for sentence in reasons(ledger, found):
            say(sentence)
    if ledger.state != "complete" or (fail and ledger.failed):
        raise typer.Exit(1)


async def _wait(store: Store, settings: Settings, ledger: Ledger, timeout: float | None) -> Ledger:
    """Wait with a bar; the sender is asked for its status where an API key is set."""
    from receiver.submissions.waiting import wait as wait_until_complete

    source = settings.sources.get(ledger.source)
    dead = DeadLetters(store)
    with progress_bar() as progress:
        task = progress.add_task("results stored", total=None)

        def progressed(now: Ledger) -> None:
            dead.report(now)
            progress.update(task, completed=now.stored, total=now.expected or None)

        async def until_complete(batches: BatchSubmissions | None) -> Ledger:
            return await wait_until_complete(
                store,
                ledger.batch_id,
                source=ledger.source,
                batches=batches,
                deadline=timeout,
                progressed=progressed,
                unread=say_unread,
            )

        if source is None or not source.api_key:
            return await until_complete(None)
        async with batches_of(store, settings, ledger.source) as batches:
            return await until_complete(batches)
