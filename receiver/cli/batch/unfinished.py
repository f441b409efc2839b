"""Submissions that are not finished: choosing one, and saying which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.cli.output import say
from receiver.errors import NotDone, UsageError

if TYPE_CHECKING:
    from storage import Store, Submission


def chosen(store: Store, unfinished: list[Submission], named: str | None) -> Submission:
    """Return the one unfinished submission that is named; raises UsageError, and NotDone.

    It is named by its id, its batch or its source, or else by the name of its batch, or else by the
    beginning of any of these but the source.
    """
    found = unfinished if named is None else _named(store, unfinished, named)
    if not found:
        raise NotDone(f"Nothing is unfinished{f' of {named}' if named else ''}: see `batch list`.")
    if len(found) > 1:
        raise UsageError(
            f"Several are unfinished, so name one: {'; '.join(map(described, found))}."
        )
    return found[0]


def _named(store: Store, unfinished: list[Submission], named: str) -> list[Submission]:
    ids = [known for known in unfinished if named in (known.id, known.batch_id, known.source)]
    if ids or not named:
        return ids
    names = {known.id: _name_of(store, known) for known in unfinished}
    return [known for known in unfinished if names[known.id] == named] or [
        known
        for known in unfinished
        if any(
            str(word or "").startswith(named)
            for word in (known.id, known.batch_id, names[known.id])
        )
    ]


def _name_of(store: Store, known: Submission) -> str | None:
    """Return the name of the batch that a submission is for, made or not."""
    if known.batch_id is None:
        name: str | None = known.plan.get("name")
        return name
    return store.batches.ledger(known.batch_id, source=known.source).name


def described(known: Submission) -> str:
    """Return what a submission is about, and how far it has come."""
    if known.kind == "run":
        return f"{known.id} (a single task of source {known.source})"
    where = f"to {known.batch_id}" if known.batch_id else f"to a new batch of source {known.source}"
    return f"{known.id} ({known.done} of {known.total} tasks are added {where})"


def say_unfinished(
    store: Store, *, source: str | None, batch_id: str | None = None, is_run: bool = False
) -> None:
    """Say on standard error which submissions, of batches or of runs, are not finished."""
    for known in store.submissions.list_all(source=source, batch_id=batch_id):
        if (known.kind == "run") != is_run:
            continue
        from receiver.submissions.base import command_to_resume  # loaded where it is needed

        say(
            f"Not finished: {described(known)}. Unless a command is at it now, go "
            f"on with: {command_to_resume(known)}."
        )
