"""Waiting for a single task: for `task wait` and `task create --wait`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from receiver.cli.aside import aside
from receiver.cli.opening import begin_work, existing_store, run, tasks_of
from receiver.cli.output import in_one_line, print_json, say, say_unread
from receiver.cli.task.show import artifacts_of, described, outcome, provider_of, question

if TYPE_CHECKING:
    from receiver.providers.base import Provider
    from receiver.settings import Settings
    from receiver.submissions.tasks import TaskSubmissions
    from storage import Store

Fail = Annotated[bool, typer.Option("--fail", help="Exit 1 if the task failed.")]


def wait_until_stored(
    run_id: str, source: str | None, *, timeout: float | None, fail: bool, as_json: bool
) -> None:
    """Return when the result is stored, and print it; exit 1 where it is not, or as `fail` says."""
    import storage  # noqa: F401  loading it takes time that is not the user's
    from receiver.settings import load

    settings = load()
    begin_work()
    ends = None if timeout is None else time.monotonic() + timeout
    try:
        ended, shown = aside(
            lambda is_left: _wait(
                settings, run_id, source, ends=ends, as_json=as_json, is_left=is_left
            ),
            seconds=timeout,
        )
    except KeyboardInterrupt:
        again = ["resultsink", "task", "wait", run_id]
        again += [] if source is None else ["--source", source]
        say(
            "The task goes on at the sender, and `resultsink serve` stores the result when it "
            f"arrives. To wait again: {shlex.join(again)}"
        )
        raise typer.Exit(130) from None
    if as_json:
        print_json(shown)
    else:
        typer.echo(shown)
    if ended is None or (fail and ended != "completed"):
        raise typer.Exit(1)


def _wait(
    settings: Settings,
    run_id: str,
    source: str | None,
    *,
    ends: float | None,
    as_json: bool,
    is_left: Callable[[], bool],
) -> tuple[str | None, object]:
    """Wait, and return the status of the result, or None, and what is to be printed."""
    with existing_store(settings) as store:
        facts, _ = store.runs.show(run_id, source=source)
        is_left()  # a first read has come back
        if not store.is_served():
            say("No receiver serves this database now: start `resultsink serve`.")
        provider = provider_of(settings, facts["source"])
        run(_until_stored(store, settings, facts, provider, ends=ends, is_left=is_left))
        facts, raw = store.runs.show(run_id, source=facts["source"])
        if as_json:
            return facts["result_status"], described(store, facts, artifacts_of(provider, raw))
        return facts["result_status"], outcome(facts, raw)


async def _until_stored(
    store: Store,
    settings: Settings,
    facts: Mapping[str, Any],
    provider: Provider | None,
    *,
    ends: float | None,
    is_left: Callable[[], bool],
) -> None:
    from receiver.submissions.waiting import wait_for_run

    notes = Notes(provider)

    async def until_stored(tasks: TaskSubmissions | None) -> None:
        await wait_for_run(
            store,
            facts["run_id"],
            source=facts["source"],
            tasks=tasks,
            deadline=None if ends is None else max(0.0, ends - time.monotonic()),
            progressed=notes.question,
            unread=say_unread,
            failed=notes.failure,
            is_left=is_left,
        )

    configured = settings.sources.get(facts["source"])
    if configured is None or not configured.api_key:
        await until_stored(None)
        return
    async with tasks_of(store, settings, facts["source"]) as tasks:
        await until_stored(tasks)


class Notes:
    """Notes on standard error about a run that is waited for, each once."""

    def __init__(self, provider: Provider | None) -> None:
        self._provider = provider
        self._last_question: object = None
        self._last_failure = ""

    def question(self, facts: Mapping[str, Any]) -> None:
        """Say what the run asks now."""
        current = (facts["sender_status"], facts["waits_for"])
        if facts["waits_for"] is not None and current != self._last_question:
            say(question(facts, self._provider))
        self._last_question = current

    def failure(self, error: Exception) -> None:
        """Say why the sender was not asked, or did not answer."""
        reason = in_one_line(error).rstrip(".")
        if reason != self._last_failure:
            say(f"The sender did not tell of it: {reason}. Waiting goes on.")
        self._last_failure = reason
