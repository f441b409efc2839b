"""resultsink batch wait."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.aside import aside
from receiver.cli.batch.progress import label, shown
from receiver.cli.batch.report import DeadLetters, Hindrances, WebhookNotes, outcome, reasons
from receiver.cli.batch.story import for_programs
from receiver.cli.batch.unfinished import say_unfinished
from receiver.cli.opening import begin_work, existing_store, run
from receiver.cli.options import AsJson, SourceName, Timeout
from receiver.cli.output import print_json, say, say_unread

if TYPE_CHECKING:
    from receiver.settings import Settings
    from receiver.sources import Source
    from storage import BatchStory, Ledger, Store


def wait(
    batches: Annotated[
        list[str],
        typer.Argument(
            metavar="BATCH", help="Which to wait for: ids, names, or beginnings of either."
        ),
    ],
    timeout: Timeout = None,
    fail: Annotated[bool, typer.Option("--fail", help="Exit 1 if any run failed.")] = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Return when all results of some batches are stored.

    Example:
        resultsink batch wait storage --timeout 3600
    """
    import storage  # noqa: F401  loading it takes time that is not the user's
    from receiver.settings import load

    settings = load()
    begin_work()
    ends = None if timeout is None else time.monotonic() + timeout
    try:
        waited = aside(
            lambda is_left: _wait(settings, batches, source, ends=ends, is_left=is_left),
            seconds=timeout,
        )
    except KeyboardInterrupt:
        _say_how_to_go_on(batches, source)
        raise typer.Exit(130) from None
    _report(settings, waited, is_one=len(batches) == 1, as_json=as_json)
    ledgers = [story.ledger for story in waited]
    if any(batch.state != "complete" or (fail and batch.failed) for batch in ledgers):
        raise typer.Exit(1)


def _say_how_to_go_on(batches: Sequence[str], source: str | None) -> None:
    its = "The batch goes" if len(batches) == 1 else "The batches go"
    again = ["resultsink", "batch", "wait", *batches]
    again += [] if source is None else ["--source", source]
    say(
        f"{its} on at the sender, and `resultsink serve` stores the results as they arrive. "
        f"To wait again: {shlex.join(again)}"
    )


def _report(
    settings: Settings, waited: Sequence[BatchStory], *, is_one: bool, as_json: bool
) -> None:
    if as_json:
        found = [for_programs(story, settings) for story in waited]
        print_json(found[0] if is_one else found)
        return
    for story in waited:
        batch = story.ledger
        typer.echo(outcome(batch) if is_one else f"{label(batch)}: {outcome(batch)}")
        for sentence in reasons(story):
            say(sentence)


def _wait(
    settings: Settings,
    names: Sequence[str],
    source: str | None,
    *,
    ends: float | None,
    is_left: Callable[[], bool],
) -> list[BatchStory]:
    from receiver.sources import configured
    from receiver.telemetry.logs import for_command

    sources = configured(settings)
    with existing_store(settings) as store, for_command():
        found = [store.batches.resolve(name, source=source) for name in names]
        batches = list({(batch.source, batch.batch_id): batch for batch in found}.values())
        askable = [
            sources[name]
            for name in sorted({batch.source for batch in batches})
            if name in sources and sources[name].settings.api_key is not None
        ]
        is_served = store.is_served()
        is_left()  # the first reads have come back
        if not is_served:
            asks = " Until then this command asks the sender itself." if askable else ""
            say(f"No receiver serves this database now: start `resultsink serve`.{asks}")
        for batch in batches:
            if batch.state != "complete":
                say_unfinished(store, source=batch.source, batch_id=batch.batch_id)
        notes = WebhookNotes(store, sources, settings.public_url) if is_served else None
        batches = run(_until_complete(store, batches, askable, notes, ends=ends, is_left=is_left))
        return [store.batches.story(each.batch_id, source=each.source) for each in batches]


async def _until_complete(
    store: Store,
    batches: Sequence[Ledger],
    askable: Sequence[Source],
    notes: WebhookNotes | None,
    *,
    ends: float | None,
    is_left: Callable[[], bool],
) -> list[Ledger]:
    from receiver.sender_api.calls import Calls
    from receiver.sender_api.client_pool import clients_for
    from receiver.sender_api.rate_limit import rate_limiter_of
    from receiver.submissions.waiting import wait as wait_until_complete
    from receiver.work.waited_checks import WaitedChecks

    dead, hindrances = DeadLetters(store), Hindrances(store)
    async with clients_for(*askable) as wire:
        calls = [Calls(each, wire, rate_limiter=rate_limiter_of(each, store)) for each in askable]
        checks = WaitedChecks(store, calls)
        with shown(batches) as progress:

            def progressed(now: Sequence[Ledger]) -> None:
                progress.update(now)
                hindrances.report(now)
                for before, batch in zip(batches, now, strict=True):
                    if before.state == "complete":
                        continue
                    dead.report(batch)
                    if notes is not None:
                        notes.report(batch)

            return await wait_until_complete(
                store,
                batches,
                check=checks.check,
                deadline=None if ends is None else max(0.0, ends - time.monotonic()),
                progressed=progressed,
                unread=say_unread,
                passed=progress.tick,
                is_left=is_left,
            )
