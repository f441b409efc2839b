"""resultsink task: create, show, wait, update, respond, cancel, list."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import typer

from receiver.cli.opening import opened, tasks_of
from receiver.cli.options import AsJson, Limit, SourceName, Timeout
from receiver.cli.output import errors, print_json, print_rows
from receiver.cli.task.create import create
from receiver.cli.task.options import json_or_file
from receiver.cli.task.show import show_stored
from receiver.cli.task.wait import Fail, wait_until_stored
from receiver.settings import load
from receiver.submissions.tasks import Tasks

app = typer.Typer(
    help="Single tasks: create them, watch them, answer what they ask.", no_args_is_help=True
)
app.command("create")(create)

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.")]


@app.command()
def show(
    run_id: TaskId,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: print what is stored.")
    ] = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Ask the sender now; print how the task stands, what it asks, and what it brought."""
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
    """Return when the result is stored; tell at once when the task asks something."""
    wait_until_stored(run_id, source, timeout=timeout, fail=fail, as_json=as_json)


@app.command()
def update(
    run_id: TaskId,
    instruction: Annotated[str, typer.Argument(help="What else to heed.")],
    source: SourceName = None,
) -> None:
    """Give a running task one more instruction."""
    _with_sender(run_id, source, lambda tasks: tasks.update(run_id, instruction))
    errors.print(f"{run_id} has the instruction.")


@app.command()
def respond(
    run_id: TaskId,
    response: Annotated[str, typer.Option(help="The answer: JSON, or a file of it.")],
    interaction: Annotated[
        str | None, typer.Option(help="The question's id; without, the one it asks now.")
    ] = None,
    source: SourceName = None,
) -> None:
    """Answer what a task asks."""
    given = json_or_file("--response", response)
    _with_sender(
        run_id, source, lambda tasks: tasks.respond(run_id, given, interaction=interaction)
    )
    errors.print(f"{run_id} has the answer; next: resultsink task wait {run_id}")


@app.command()
def cancel(run_id: TaskId, source: SourceName = None) -> None:
    """Ask the sender to cancel a task."""
    _with_sender(run_id, source, lambda tasks: tasks.cancel(run_id))
    errors.print(f"{run_id} is cancelled.")


@app.command("list")
def list_(source: SourceName = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the newest tasks that are of no batch."""
    with opened() as store:
        rows = store.runs.list_single(source=source, limit=limit)
    if as_json:
        print_json(rows)
        return
    asked = [{**row, "asks": (row["waits_for"] or {}).get("type")} for row in rows]
    shown = [{**row, "status": row["sender_status"] or row["status"]} for row in asked]
    columns = ["created_at", "source", "run_id", "runner", "status", "asks", "fetched_at"]
    print_rows(shown, columns, nothing="There are no tasks yet: see `task create --help`.")


def _with_sender(run_id: str, source: str | None, do: Callable[[Tasks], Any]) -> None:
    settings = load()
    with opened() as store:
        facts, _ = store.runs.show(run_id, source=source)

        async def work() -> None:
            async with tasks_of(store, settings, facts["source"]) as tasks:
                await do(tasks)

        asyncio.run(work())
