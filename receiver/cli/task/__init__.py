"""resultsink task: create, show, wait, update, respond, cancel, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from receiver.cli.batch.unfinished import say_unfinished
from receiver.cli.help import Commands
from receiver.cli.opening import existing_store, run, tasks_of
from receiver.cli.options import AsJson, Limit, SourceName, Timeout
from receiver.cli.output import print_json, print_rows, say
from receiver.cli.task.create import create
from receiver.cli.task.options import json_or_file
from receiver.cli.task.show import show_stored
from receiver.cli.task.wait import Fail, wait_until_stored

if TYPE_CHECKING:
    from receiver.submissions.tasks import TaskSubmissions

app = Commands(help="Single tasks: create them, watch them, answer what they ask.")
app.command("create")(create)

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.")]


@app.command()
def show(
    run_id: TaskId,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Print what is stored, without asking the sender."),
    ] = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Ask the sender now, and print the task's status, its question and its result.

    Example:
        resultsink task show TASK_ID --offline
    """
    if not offline:
        _with_sender(run_id, source, lambda tasks: tasks.show(run_id))
    show_stored(run_id, source, as_json=as_json)


@app.command()
def wait(
    run_id: TaskId,
    timeout: Timeout = None,
    fail: Fail = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Return when the result is stored; print a question of the task at once.

    Example:
        resultsink task wait TASK_ID --timeout 600
    """
    wait_until_stored(run_id, source, timeout=timeout, fail=fail, as_json=as_json)


@app.command()
def update(
    run_id: TaskId,
    instruction: Annotated[str, typer.Argument(help="What the task must also heed.")],
    source: SourceName = None,
) -> None:
    """Give a running task one more instruction.

    Example:
        resultsink task update TASK_ID 'Leave out pilot plants.'
    """
    _with_sender(run_id, source, lambda tasks: tasks.update(run_id, instruction))
    say(f"{run_id} has the instruction.")


@app.command()
def respond(
    run_id: TaskId,
    response: Annotated[
        str, typer.Option(metavar="JSON", help="The answer: JSON, or a file of it.")
    ],
    interaction: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The question's id; without, the one it asks now."),
    ] = None,
    source: SourceName = None,
) -> None:
    """Answer the question of a task.

    Example:
        resultsink task respond TASK_ID --response answer.json
    """
    given = json_or_file("--response", response)
    _with_sender(
        run_id, source, lambda tasks: tasks.respond(run_id, given, interaction=interaction)
    )
    say(f"{run_id} has the answer; next: resultsink task wait {run_id}")


@app.command()
def cancel(run_id: TaskId, source: SourceName = None) -> None:
    """Ask the sender to cancel a task.

    Example:
        resultsink task cancel TASK_ID
    """
    _with_sender(run_id, source, lambda tasks: tasks.cancel(run_id))
    say(f"{run_id} is cancelled.")


@app.command("list")
def list_(source: SourceName = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the newest tasks that belong to no batch.

    Example:
        resultsink task list --source parallel
    """
    with existing_store() as store:
        rows = store.runs.list_single(source=source, limit=limit)
        say_unfinished(store, source=source, is_run=True)
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            **row,
            "asks": (row["waits_for"] or {}).get("type"),
            "status": row["sender_status"] or row["status"],
        }
        for row in rows
    ]
    columns = ["created_at", "source", "run_id", "runner", "status", "asks", "fetched_at"]
    print_rows(shown, columns, nothing="There are no tasks yet: see `task create --help`.")


def _with_sender(
    run_id: str, source: str | None, do: Callable[[TaskSubmissions], Awaitable[object]]
) -> None:
    from receiver.settings import load

    settings = load()
    with existing_store(settings) as store:
        facts, _ = store.runs.show(run_id, source=source)

        async def work() -> None:
            async with tasks_of(store, settings, facts["source"]) as tasks:
                await do(tasks)

        run(work())
