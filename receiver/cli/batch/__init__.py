"""resultsink batch: create, add, wait, show, list, status, cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from receiver.cli.batch.create import add, create
from receiver.cli.batch.story import for_programs, print_story
from receiver.cli.batch.unfinished import say_unfinished
from receiver.cli.batch.wait import wait
from receiver.cli.help import Commands
from receiver.cli.opening import batches_of, existing_store, run
from receiver.cli.options import AsJson, BatchName, Limit, SourceName
from receiver.cli.output import print_json, print_list, say

if TYPE_CHECKING:
    from receiver.submissions.batches import BatchSubmissions
    from storage import Ledger

app = Commands(help="Create batches, watch them, wait for their results.")
app.command("create")(create)
app.command("add")(add)
app.command("wait")(wait)


@app.command()
def show(batch: BatchName, source: SourceName = None, as_json: AsJson = False) -> None:
    """Print the story of a batch: its numbers, how each result came, what is missing and why.

    Example:
        resultsink batch show storage
    """
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        named = store.batches.resolve(batch, source=source)
        story = store.batches.story(named.batch_id, source=named.source)
        say_unfinished(store, source=named.source, batch_id=named.batch_id)
        is_served = store.is_served()
    if as_json:
        print_json(for_programs(story, settings))
    else:
        print_story(story, settings, is_served=is_served)


@app.command("list")
def list_(source: SourceName = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the newest batches.

    Example:
        resultsink batch list --source valyu --limit 10
    """
    with existing_store() as store:
        rows = [
            ledger.as_dict() for ledger in store.batches.list_newest(source=source, limit=limit)
        ]
        say_unfinished(store, source=source)
    columns = ["created_at", "source", "batch_id", "name", "state", "expected", "stored", "failed"]
    print_list(
        rows,
        columns,
        nothing="There are no batches yet: see `batch create --help`.",
        as_json=as_json,
    )


@app.command()
def status(batch: BatchName, source: SourceName = None, as_json: AsJson = False) -> None:
    """Ask the sender for the status now, and print the ledger.

    Example:
        resultsink batch status storage
    """
    ledger = _with_sender(batch, source, lambda batches, found: batches.status(found.batch_id))
    show(ledger.batch_id, ledger.source, as_json)


@app.command()
def cancel(batch: BatchName, source: SourceName = None) -> None:
    """Ask the sender to cancel a batch; results that exist already are still stored.

    Example:
        resultsink batch cancel storage
    """
    ledger = _with_sender(batch, source, lambda batches, found: batches.cancel(found.batch_id))
    say(f"{ledger.batch_id} is cancelled; its results so far are stored as they arrive.")


def _with_sender(
    given: str,
    source: str | None,
    do: Callable[[BatchSubmissions, Ledger], Awaitable[object]],
) -> Ledger:
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        ledger = store.batches.resolve(given, source=source)

        async def work() -> None:
            async with batches_of(store, settings, ledger.source) as batches:
                await do(batches, ledger)

        run(work())
    return ledger
