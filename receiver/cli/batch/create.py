"""resultsink batch create, and add: tasks read from a file and given to the sender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from receiver.cli.batch.resume import resume_submission
from receiver.cli.opening import batches_of, existing_store, run, store_to_fill
from receiver.cli.options import AsJson, BatchName, SourceName
from receiver.cli.output import counting, print_json, say
from receiver.cli.output.terminal import give_up_output
from receiver.errors import UsageError

if TYPE_CHECKING:
    from receiver.providers.capabilities.batches import CreatesBatches
    from receiver.providers.model import NewTask
    from receiver.settings import Settings
    from receiver.submissions.batches import NewBatch
    from storage import Store

TASKS = typer.Option("--tasks", help="CSV, JSON or JSON Lines.")
TasksFile = Annotated[Path, TASKS]
SeparatorName = Literal["comma", "semicolon", "tab", "bar"]
Encoding = Annotated[
    str | None, typer.Option(help="The file's encoding, such as windows-1252; UTF-8 without.")
]
Separates = Annotated[
    SeparatorName | None, typer.Option(help="What separates the columns; found out without.")
]
Skip = Annotated[int, typer.Option(help="Leave out so many tasks from the top.", min=0)]


def create(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            help="The configured source; with --resume also a submission or a batch, or nothing "
            "where only one is unfinished."
        ),
    ] = None,
    tasks: Annotated[Path | None, TASKS] = None,
    name: Annotated[str | None, typer.Option(help="A name for the batch.")] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            "--mode",
            "--processor",
            "--runner",
            metavar="NAME",
            help="Who does the work, in the sender's word: fast, core, neon and so on.",
        ),
    ] = None,
    output_schema: Annotated[
        Path | None, typer.Option(help="A JSON schema for the outputs; text without.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="ID", help="The stored task to run (Parallel v0).")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="SENTENCES", help="The text of a new stored task, with ${arguments} in it."
        ),
    ] = None,
    skip: Skip = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted `create` or `add`.")
    ] = False,
    repeat: Annotated[
        bool,
        typer.Option("--repeat", help="With --resume: repeat a call that may be charged twice."),
    ] = False,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="With --resume: leave out what is not added yet.")
    ] = False,
    encoding: Encoding = None,
    separator: Separates = None,
    as_json: AsJson = False,
) -> None:
    """Create a batch with its webhooks registered, add the tasks, and return at once.

    Example:
        resultsink batch create valyu --tasks tasks.csv --name storage --mode fast
    """
    if resume:
        _refuse_with_resume(tasks=tasks, name=name, runner=runner, skip=skip or None)
        resume_submission(source, repeat=repeat, give_up=give_up, as_json=as_json)
        return
    if repeat or give_up:
        raise UsageError("--repeat and --give-up are for --resume.")
    if source is None or tasks is None:
        raise typer.BadParameter("name the source, and the file with --tasks", ctx=context)
    from receiver.providers.capabilities.require import require_new_batches
    from receiver.providers.model import Plan
    from receiver.settings import load
    from receiver.sources import configured, named
    from receiver.submissions.batches import NewBatch

    settings = load()
    provider = require_new_batches(named(configured(settings), source).provider)
    new_tasks = _read(
        tasks, provider, skip, "nothing was created", encoding=encoding, separator=separator
    )
    plan = Plan(
        name=name, runner=runner, schema=_schema(output_schema), prompt=prompt, task_id=task
    )
    new = NewBatch(plan, new_tasks, skipped=skip)
    with store_to_fill(settings) as store:
        run(_create(store, settings, source, new, as_json=as_json))


async def _create(
    store: Store, settings: Settings, source: str, new: NewBatch, *, as_json: bool
) -> None:
    def created(batch_id: str) -> None:
        if as_json:
            return
        try:
            typer.echo(batch_id)
        except OSError as error:  # the batch is there: its tasks must be added all the same
            give_up_output()
            say(f"Standard output cannot be written ({error.strerror}): this is {batch_id}.")

    async with batches_of(store, settings, source) as batches:
        with counting("adding tasks", total=len(new.tasks)) as added:
            batch_id = await batches.create(new, created=created, added=added)
    if as_json:
        print_json(store.batches.ledger(batch_id, source=source).as_dict())
    else:
        say(f"{len(new.tasks)} tasks added; next: resultsink batch wait {batch_id}")


def _refuse_with_resume(**given: object) -> None:
    """Raise UsageError for an option whose value is stored with the submission."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"--resume takes no --{name}: all of it is stored since the start.")


def add(
    batch: BatchName,
    tasks: TasksFile,
    skip: Skip = 0,
    encoding: Encoding = None,
    separator: Separates = None,
    source: SourceName = None,
) -> None:
    """Add tasks to a batch that is still open, or to any group of Parallel.

    Example:
        resultsink batch add storage --tasks more.csv
    """
    from receiver.providers.capabilities.require import require_new_batches
    from receiver.settings import load
    from receiver.sources import configured, named

    settings = load()
    with existing_store(settings) as store:
        ledger = store.batches.resolve(batch, source=source)
        provider = require_new_batches(named(configured(settings), ledger.source).provider)
        new = _read(
            tasks, provider, skip, "nothing was added", encoding=encoding, separator=separator
        )

        async def work() -> None:
            async with batches_of(store, settings, ledger.source) as batches:
                with counting("adding tasks", total=len(new)) as added:
                    await batches.add(ledger.batch_id, new, added=added, skipped=skip)

        run(work())
    say(f"{len(new)} tasks added; next: resultsink batch wait {ledger.batch_id}")


def _read(
    path: Path,
    provider: CreatesBatches,
    skip: int,
    outcome: str,
    *,
    encoding: str | None,
    separator: SeparatorName | None,
) -> list[NewTask]:
    """Read the tasks after the first `skip`, and say how the file was read.

    Raises UsageError, with `outcome`, if none is left.
    """
    from receiver.submissions.tasks_file import Separator, read_tasks

    told = None if separator is None else Separator(separator)
    file = read_tasks(path, provider, encoding=encoding, separator=told)
    tasks = file.tasks[skip:]
    if not tasks:
        raise UsageError(f"{path} has no task after the first {skip}: {outcome}.")
    say(file.summary)
    return tasks


def _schema(path: Path | None) -> dict[str, Any] | None:
    from receiver.text_files import read_text

    if path is None:
        return None
    try:
        schema = json.loads(read_text(path).text)
    except ValueError as error:
        raise UsageError(f"The output schema {path} cannot be read: {error}.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"The output schema {path} must be a JSON object.")
    return schema
