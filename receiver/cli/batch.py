"""resultsink batch: create, add, wait, show, list, cancel."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from receiver.app import open_store
from receiver.cli.batch_report import DeadLetters, print_missing, reasons
from receiver.cli.opening import batches_of, opened
from receiver.cli.options import AsJson, Limit, SourceName, Timeout
from receiver.cli.output import errors, print_json, print_rows, say_unread
from receiver.errors import UsageError
from receiver.providers.base import Provider
from receiver.providers.model import NewTask, Plan
from receiver.settings import Settings, load
from receiver.sources import configured, named
from receiver.submissions.batches import NewBatch
from receiver.submissions.tasks_file import read_tasks
from receiver.submissions.waiting import wait as wait_for
from storage import Ledger, Store

app = typer.Typer(help="Create batches, watch them, wait for their results.", no_args_is_help=True)

TasksFile = Annotated[Path, typer.Option("--tasks", help="CSV, JSON or JSON Lines.")]
Skip = Annotated[int, typer.Option(help="Leave out so many tasks from the top.", min=0)]


@app.command()
def create(
    source: Annotated[str, typer.Argument(help="The configured source.")],
    tasks: TasksFile,
    name: Annotated[str | None, typer.Option(help="A name for the batch.")] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            "--mode",
            "--processor",
            "--runner",
            help="Who does the work, in the sender's word: fast, core, neon and so on.",
        ),
    ] = None,
    output_schema: Annotated[
        Path | None, typer.Option(help="A JSON schema for the outputs; text without.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The stored task to run (Parallel v0).")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The text of a new stored task, with ${arguments} in it.")
    ] = None,
    skip: Skip = 0,
    as_json: AsJson = False,
) -> None:
    """Create a batch with its webhooks registered, add the tasks, and return at once."""
    settings = load()
    provider = named(configured(settings), source).provider
    rest = _read(tasks, provider, skip, "nothing was created")
    plan = Plan(
        name=name, runner=runner, schema=_schema(output_schema), prompt=prompt, task_id=task
    )
    new = NewBatch(plan, rest, skipped=skip)
    store = open_store(settings)
    try:
        asyncio.run(_create(store, settings, source, new, as_json=as_json))
    finally:
        store.close()


async def _create(
    store: Store, settings: Settings, source: str, new: NewBatch, *, as_json: bool
) -> None:
    def created(batch_id: str) -> None:
        if not as_json:
            typer.echo(batch_id)

    async with batches_of(store, settings, source) as batches:
        with _bar("adding tasks", total=len(new.tasks)) as moved:
            batch_id = await batches.create(new, created=created, added=moved)
    if as_json:
        print_json(store.batches.ledger(batch_id, source=source).as_dict())
    else:
        errors.print(f"{len(new.tasks)} tasks added; next: resultsink batch wait {batch_id}")


@app.command()
def add(
    batch_id: Annotated[str, typer.Argument(help="The batch to add to.")],
    tasks: TasksFile,
    skip: Skip = 0,
    source: SourceName = None,
) -> None:
    """Add tasks to a batch that is still open."""
    settings = load()
    with opened() as store:
        ledger = store.batches.ledger(batch_id, source=source)
        provider = named(configured(settings), ledger.source).provider
        new = _read(tasks, provider, skip, "nothing was added")

        async def work() -> None:
            async with batches_of(store, settings, ledger.source) as batches:
                with _bar("adding tasks", total=len(new)) as moved:
                    await batches.add(batch_id, new, added=moved, skipped=skip)

        asyncio.run(work())
    errors.print(f"{len(new)} tasks added; next: resultsink batch wait {batch_id}")


@app.command()
def wait(
    batch_id: Annotated[str, typer.Argument(help="The batch to wait for.")],
    timeout: Timeout = None,
    fail: Annotated[bool, typer.Option("--fail", help="Exit 1 if any run failed.")] = False,
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Return when all results of a batch are stored."""
    settings = load()
    with opened() as store:
        ledger = store.batches.ledger(batch_id, source=source)
        if not store.is_served():
            errors.print("No receiver serves this database now: start `resultsink serve`.")
        _say_if_paused(store, ledger)
        ledger = asyncio.run(_wait(store, settings, ledger, timeout))
        found = store.batches.missing(ledger)
    if as_json:
        print_json({**ledger.as_dict(), **found})
    else:
        typer.echo(_ending(ledger))
        for sentence in reasons(ledger, found):
            errors.print(sentence)
    if ledger.state != "complete" or (fail and ledger.failed):
        raise typer.Exit(1)


async def _wait(store: Store, settings: Settings, ledger: Ledger, timeout: float | None) -> Ledger:
    askable = ledger.source in settings.sources and settings.sources[ledger.source].api_key
    dead = DeadLetters(store)
    with _progress() as progress:
        task = progress.add_task("results stored", total=None)

        def moved(now: Ledger) -> None:
            dead.tell(now)
            progress.update(task, completed=now.stored, total=now.expected or None)

        async def until_complete(batches: Any) -> Ledger:
            return await wait_for(
                store,
                ledger.batch_id,
                source=ledger.source,
                batches=batches,
                deadline=timeout,
                progressed=moved,
                unread=say_unread,
            )

        if not askable:
            return await until_complete(None)
        async with batches_of(store, settings, ledger.source) as batches:
            return await until_complete(batches)


@app.command()
def show(
    batch_id: Annotated[str, typer.Argument(help="The batch.")],
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Print the ledger of a batch, and what is missing and why."""
    with opened() as store:
        ledger = store.batches.ledger(batch_id, source=source)
        found = store.batches.missing(ledger)
        _say_if_paused(store, ledger)
    if as_json:
        print_json({**ledger.as_dict(), **found})
        return
    columns = ["batch_id", "name", "state", "sender_status", "expected", "announced", "stored"]
    print_rows([ledger.as_dict()], [*columns, "failed"], nothing="")
    print_missing(ledger, found)


@app.command("list")
def list_(source: SourceName = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the newest batches."""
    with opened() as store:
        rows = [
            ledger.as_dict() for ledger in store.batches.list_newest(source=source, limit=limit)
        ]
    if as_json:
        print_json(rows)
        return
    columns = ["created_at", "source", "batch_id", "name", "state", "expected", "stored", "failed"]
    print_rows(rows, columns, nothing="There are no batches yet: see `batch create --help`.")


@app.command()
def status(
    batch_id: Annotated[str, typer.Argument(help="The batch.")],
    source: SourceName = None,
    as_json: AsJson = False,
) -> None:
    """Ask the sender for the status now, and print the ledger."""
    _with_sender(batch_id, source, lambda batches: batches.status(batch_id))
    show(batch_id, source, as_json)


@app.command()
def cancel(
    batch_id: Annotated[str, typer.Argument(help="The batch.")], source: SourceName = None
) -> None:
    """Ask the sender to cancel a batch; what had ended is still stored."""
    _with_sender(batch_id, source, lambda batches: batches.cancel(batch_id))
    errors.print(f"{batch_id} is cancelled; its results so far are stored as they arrive.")


def _with_sender(batch_id: str, source: str | None, do: Callable[[Any], Any]) -> None:
    settings = load()
    with opened() as store:
        ledger = store.batches.ledger(batch_id, source=source)

        async def work() -> None:
            async with batches_of(store, settings, ledger.source) as batches:
                await do(batches)

        asyncio.run(work())


def _read(path: Path, provider: Provider, skip: int, otherwise: str) -> list[NewTask]:
    tasks = read_tasks(path, provider)[skip:]
    if not tasks:
        raise UsageError(f"{path} has no task after the first {skip}: {otherwise}.")
    return tasks


def _schema(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        schema = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The output schema {path} cannot be read: {error}.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"The output schema {path} must be a JSON object.")
    return schema


def _say_if_paused(store: Store, ledger: Ledger) -> None:
    """Why nothing more comes of a batch that is not complete, where the sender refuses us."""
    for paused in store.sources.list_paused():
        if paused["source"] == ledger.source and ledger.state != "complete":
            errors.print(f"Source {ledger.source} is paused: {paused['paused_reason']}.")


def _ending(ledger: Ledger) -> str:
    said = f"{ledger.stored} of {ledger.expected} results stored, {ledger.failed} failed"
    if ledger.state != "complete":
        return f"not complete: {said}"
    if ledger.sender_status == "cancelled":
        return f"cancelled: {said}"
    return f"completed with errors: {said}" if ledger.failed else f"completed: {said}"


def _progress() -> Progress:
    """A bar on standard error, drawn only where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


class _bar:
    """A progress bar around a block; the block gets a function that moves it."""

    def __init__(self, what: str, *, total: int) -> None:
        self._progress = _progress()
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        return lambda done: self._progress.update(self._task, completed=done)

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()
