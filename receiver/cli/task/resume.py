"""Finding the task of a `task create` that was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from receiver.cli.batch.unfinished import chosen
from receiver.cli.opening import existing_store, run, tasks_of
from receiver.cli.output import say

if TYPE_CHECKING:
    from receiver.settings import Settings
    from storage import Store, Submission


def resume_task(named: str | None, *, give_up: bool) -> None:
    """Find the task of the submission that is named, by its id or its source, and print its id."""
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        unfinished = [each for each in store.submissions.list_all() if each.kind == "run"]
        run(_resume(store, settings, chosen(store, unfinished, named), give_up=give_up))


async def _resume(store: Store, settings: Settings, known: Submission, *, give_up: bool) -> None:
    async with tasks_of(store, settings, known.source) as tasks:
        if give_up:
            await tasks.give_up(known)
            say(f"{known.id} is given up.")
            return
        run_id = await tasks.resume(known)
    typer.echo(run_id)
    say(f"next: resultsink task wait {run_id}")
