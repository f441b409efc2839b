"""The story of a batch for people: its numbers, and a line for each thing that explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from receiver.cli.durations import spoken
from receiver.cli.opening import currency_of
from receiver.cli.output import in_one_line, print_facts, print_rows

if TYPE_CHECKING:
    from receiver.settings import Settings
    from storage import BatchStory

SHOWN_RUNS = 20
"""Missing runs that are named; how many more there are is said."""

Facts = Iterator[tuple[str, str]]


def for_programs(story: BatchStory, settings: Settings) -> dict[str, Any]:
    """Return a story with the currency of its cost."""
    return {**story.as_dict(), "currency": _currency(story, settings)}


def print_story(story: BatchStory, settings: Settings, *, is_served: bool) -> None:
    """Print what a batch is, its numbers, why they are so, and the rows that are missing."""
    print_facts(list(_what(story)))
    typer.echo()
    print_facts(list(_numbers(story, _currency(story, settings))))
    typer.echo()
    print_facts(list(_looks(story, is_served=is_served)))
    _print_missing(story)
    if story.dead:
        typer.echo("\nDead letters keep results away; to try one again: resultsink dead replay ID")
        print_rows(story.dead, ["id", "kind", "subject", "reason"], nothing="")


def _currency(story: BatchStory, settings: Settings) -> str | None:
    """Return the currency of its cost; loading the senders takes a while."""
    has_cost = story.arrivals.cost is not None
    return currency_of(settings, story.ledger.source) if has_cost else None


def _what(story: BatchStory) -> Facts:
    batch = story.ledger
    yield "batch", batch.batch_id
    if batch.name is not None:
        yield "name", batch.name
    runner = "" if batch.runner is None else f", {batch.runner}"
    yield "source", f"{batch.source}{runner}"
    if batch.task_id is not None:
        yield "task", batch.task_id
    yield "created", _at(batch.created_at)
    by_sender = "" if batch.sender_status is None else f"; the sender says {batch.sender_status}"
    yield "state", f"{batch.state}{by_sender}"
    if batch.completed_at is not None:
        took = spoken(batch.completed_at - batch.created_at)
        yield "completed", f"{_at(batch.completed_at)}, after {took}"


def _numbers(story: BatchStory, currency: str | None) -> Facts:
    batch = story.ledger
    width = len(f"{batch.expected:,}")

    def line(number: int, words: Sequence[str]) -> str:
        return f"{number:>{width},}  {', '.join(word for word in words if word)}".rstrip()

    unnamed = f"{story.unnamed:,} not named yet" if story.unnamed else ""
    yield "expected", line(batch.expected, [unnamed])
    yield "announced", line(batch.announced, ["ended, as the sender says"])
    done = batch.stored - batch.failed
    parts = [f"{done:,} completed", f"{batch.failed:,} failed"] if batch.failed else []
    pruned = f"{batch.pruned:,} pruned at their age" if batch.pruned else ""
    yield "stored", line(batch.stored, [*parts, pruned])
    yield "missing", line(batch.missing, _parts(story))
    if story.arrivals.found_by:
        yield "came by", _counted(story.arrivals.found_by)
    if story.arrivals.cost is not None:
        cost = f"{story.arrivals.cost:,.2f} {currency or ''}".rstrip()
        yield "cost", f"{cost} so far" if batch.missing else cost


def _parts(story: BatchStory) -> list[str]:
    """Return of what the missing runs are made up; a single part needs no number of its own."""
    batch = story.ledger
    ended = batch.announced - batch.stored
    without_end = batch.missing - ended - batch.unsent
    parts = [(ended, "ended"), *_without_end(story, without_end), (batch.unsent, _unsent(story))]
    shown = [(count, words) for count, words in parts if count]
    return [words if len(shown) == 1 else f"{count:,} {words}" for count, words in shown]


def _without_end(story: BatchStory, count: int) -> list[tuple[int, str]]:
    """Return what is known of so many runs whose end was not announced."""
    sender = story.sender
    if sender is None:
        return [(count, "not known yet: the sender was not asked")]
    total = sender["total"]
    if total is None:
        return [(count, "without an end yet")]
    by_sender = max(0, total - max(sender["ended"] or 0, story.ledger.announced))
    going_on = min(count, by_sender)
    is_cancelled = story.ledger.sender_status == "cancelled"
    words = "not ended, though cancelled" if is_cancelled else "still going on"
    return [(going_on, words), (count - going_on, "not among those that the sender counts")]


def _unsent(story: BatchStory) -> str:
    resume = [f"resultsink batch create --resume {known['id']}" for known in story.unfinished]
    return f"not sent yet: resume with {'; '.join(resume)}"


def _looks(story: BatchStory, *, is_served: bool) -> Facts:
    yield "sender", _by_sender(story)
    yield from _refused(story)
    attempt = story.last_attempt
    if attempt is not None:
        detail = in_one_line(attempt["detail"])
        when = _ago(story, attempt["started_at"])
        yield "last look", f"{when}, job {attempt['job_id']}: {attempt['outcome']}: {detail}"
    if story.ledger.state == "complete":
        return
    if story.paused is not None:
        yield "paused", f"{story.paused['paused_reason']}, {_ago(story, story.paused['paused_at'])}"
    yield "next look", _next_look(story) if is_served else "once `resultsink serve` runs"


def _by_sender(story: BatchStory) -> str:
    sender = story.sender
    if sender is None:
        return "not asked yet"
    total = "" if sender["total"] is None else f"{sender['total']:,} in all: "
    counts = _counted({name: count for name, count in sender["by_status"].items() if count})
    return f"{total}{counts or 'no counts'} ({_ago(story, sender['read_at'])})"


def _next_look(story: BatchStory) -> str:
    if story.paused is not None:
        return f"one probe, {_ahead(story, story.paused['probe_at'])}"
    look = story.next_look
    if look is None:
        return f"none is planned: resultsink batch status {story.ledger.batch_id}"
    return "now" if look["is_running"] else _ahead(story, look["due"])


def _refused(story: BatchStory) -> Facts:
    webhooks, batch = story.webhooks, story.ledger
    if not webhooks.refused:
        return
    where = "" if batch.endpoint_id else f" at the URL of source {batch.source}, for any batch"
    yield (
        "webhooks",
        f"{webhooks.refused:,} refused{where} ({webhooks.reason}). "
        f"Why: resultsink rejected show {webhooks.newest_refused}",
    )


def _print_missing(story: BatchStory) -> None:
    batch = story.ledger
    if not story.missing_runs:
        return
    shown = story.missing_runs[:SHOWN_RUNS]
    named = batch.missing - story.unnamed
    typer.echo(f"\n{named:,} {'run has' if named == 1 else 'runs have'} no result yet:")
    columns = ["run_id", "task_id", "status", "sender_status"]
    if all(run["task_id"] is None for run in shown):
        columns.remove("task_id")
    print_rows(shown, columns, nothing="")
    if named > len(shown):
        typer.echo(f"and {named - len(shown):,} more")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _at(moment: datetime) -> str:
    return f"{in_one_line(moment)} UTC"


def _ago(story: BatchStory, moment: datetime | None) -> str:
    if moment is None:
        return "-"
    return f"{spoken(max(story.read_at - moment, timedelta()))} ago"


def _ahead(story: BatchStory, moment: datetime) -> str:
    left = moment - story.read_at
    return "due" if left <= timedelta() else f"in {spoken(left)}"
