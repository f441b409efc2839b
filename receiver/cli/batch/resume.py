"""Going on with a `batch create` or a `batch add` that was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from receiver.cli.batch.unfinished import chosen
from receiver.cli.opening import batches_of, existing_store, run
from receiver.cli.output import counting, print_json, say

if TYPE_CHECKING:
    from receiver.settings import Settings
    from storage import Store, Submission


def resume_submission(named: str | None, *, repeat: bool, give_up: bool, as_json: bool) -> None:
    """Go on with the submission that is named: by its id, its batch or its source."""
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        unfinished = [each for each in store.submissions.list_all() if each.kind != "run"]
        known = chosen(store, unfinished, named)
        run(_resume(store, settings, known, repeat=repeat, give_up=give_up, as_json=as_json))


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
