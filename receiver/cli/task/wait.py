"""Waiting for a single task: for `task wait` and `task create --wait`."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from receiver.cli.opening import opened, tasks_of
from receiver.cli.output import errors, in_one_line, print_json, say_unread
from receiver.cli.task.show import artifacts_of, described, outcome, provider_of, question
from receiver.providers.base import Provider
from receiver.settings import Settings, load
from receiver.submissions.waiting import wait_for_run
from storage import Store

Fail = Annotated[bool, typer.Option("--fail", help="Exit 1 if the task failed.")]


def wait_until_stored(
    run_id: str, source: str | None, *, timeout: float | None, fail: bool, as_json: bool
) -> None:
    """Return when the result is stored, and print it; exit 1 where it is not, or as `fail` says."""
    settings = load()
    with opened() as store:
        facts, _ = store.runs.show(run_id, source=source)
        if not store.is_served():
            errors.print("No receiver serves this database now: start `resultsink serve`.")
        provider = provider_of(settings, facts["source"])
        asyncio.run(_wait(store, settings, facts, provider, timeout))
        facts, raw = store.runs.show(run_id, source=facts["source"])
        if as_json:
            print_json(described(store, facts, artifacts_of(provider, raw)))
        else:
            typer.echo(outcome(facts, raw))
    ended = facts["result_status"]
    if ended is None or (fail and ended != "completed"):
        raise typer.Exit(1)


async def _wait(
    store: Store,
    settings: Settings,
    facts: Mapping[str, Any],
    provider: Provider | None,
    timeout: float | None,
) -> None:
    notes = Notes(provider)

    async def until_stored(tasks: Any) -> None:
        await wait_for_run(
            store,
            facts["run_id"],
            source=facts["source"],
            tasks=tasks,
            deadline=timeout,
            progressed=notes.question,
            unread=say_unread,
            failed=notes.failure,
        )

    configured = settings.sources.get(facts["source"])
    if configured is None or not configured.api_key:
        await until_stored(None)
        return
    async with tasks_of(store, settings, facts["source"]) as tasks:
        await until_stored(tasks)


class Notes:
    """Tells on standard error, while a run is waited for, of each thing once; waiting goes on."""

    def __init__(self, provider: Provider | None) -> None:
        self._provider = provider
        self._asked: Any = None
        self._failed = ""

    def question(self, facts: Mapping[str, Any]) -> None:
        """What the run asks now."""
        news = (facts["sender_status"], facts["waits_for"])
        if facts["waits_for"] is not None and news != self._asked:
            errors.print(question(facts, self._provider))
        self._asked = news

    def failure(self, error: Exception) -> None:
        """Why the sender was not asked, or could not tell."""
        said = in_one_line(error).rstrip(".")
        if said != self._failed:
            errors.print(f"The sender did not tell of it: {said}. Waiting goes on.")
        self._failed = said
