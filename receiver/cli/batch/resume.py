"""Going on with a submission that was interrupted, and sentences about those that were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from receiver.cli.opening import batches_of, existing_store, run
from receiver.cli.output import counting, print_json, say
from receiver.errors import NotDone, UsageError

if TYPE_CHECKING:
    from receiver.settings import Settings
    from storage import Store, Submission


def resume_submission(named: str | None, *, repeat: bool, give_up: bool, as_json: bool) -> None:
    """Go on with the submission that is named: by its id, its batch or its source."""
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        known = chosen(store.submissions.list_all(), named)
        if known.kind == "run":
            raise UsageError(f"{known.id} is a single task: task create --resume {known.id}.")
        run(_resume(store, settings, known, repeat=repeat, give_up=give_up, as_json=as_json))


def chosen(unfinished: list[Submission], named: str | None) -> Submission:
    """Return the one unfinished submission that is named; raises UsageError, and NotDone."""
    found = [
        known
        for known in unfinished
        if named is None or named in (known.id, known.batch_id, known.source)
    ]
    if not found:
        raise NotDone(f"Nothing is unfinished{f' of {named}' if named else ''}: see `batch list`.")
    if len(found) > 1:
        raise UsageError(
            f"Several are unfinished, so name one: {'; '.join(map(described, found))}."
        )
    return found[0]


def described(known: Submission) -> str:
    """Return what a submission is about, and how far it has come."""
    if known.kind == "run":
        return f"{known.id} (a single task of source {known.source})"
    where = f"to {known.batch_id}" if known.batch_id else f"to a new batch of source {known.source}"
    return f"{known.id} ({known.done} of {known.total} tasks are added {where})"


def say_unfinished(store: Store, *, source: str | None, batch_id: str | None = None) -> None:
    """Say on standard error which submissions are not finished, and how to go on."""
    from receiver.submissions.base import command_to_resume

    for known in store.submissions.list_all(source=source, batch_id=batch_id):
        say(f"Not finished: {described(known)}. Go on with: {command_to_resume(known)}.")


async def _resume(
    store: Store,
    settings: Settings,
    known: Submission,
    *,
    repeat: bool,
    give_up: bool,
    as_json: bool,
) -> None:
    async with batches_of(store, settings, known.source) as batches:
        if give_up:
            await batches.give_up(known)
            say(f"{known.id} is given up: {known.total - known.done} tasks were not added.")
            return

        def created(batch_id: str) -> None:
            if not as_json:
                typer.echo(batch_id)

        with counting("adding tasks", total=known.total) as added:
            batch_id = await batches.resume(known, repeat=repeat, created=created, added=added)
    if as_json:
        print_json(store.batches.ledger(batch_id, source=known.source).as_dict())
    else:
        left = known.total - known.done
        say(f"{left} tasks added; next: resultsink batch wait {batch_id}")
