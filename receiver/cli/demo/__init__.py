"""resultsink demo: the main job end to end, against a simulated sender that misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from receiver.cli.demo.narration import narrate, say_of
from receiver.cli.demo.services import free_port, receiver_process, simulated_sender
from receiver.cli.opening import batches_of, begin_work, run, store_to_fill
from receiver.cli.output import progress_bar, readable, say_unread
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from rich.console import Console

    from receiver.providers.model import NewTask
    from receiver.settings import Settings
    from storage import Ledger, Store

TASKS = 25
WAIT_SECONDS = 60.0

LEDGER = ("state", "sender_status", "expected", "announced", "stored", "failed")

COMPANIES = (
    "Northvolt", "Form Energy", "Fluence", "Eos", "ESS Tech", "Ambri", "Highview", "Hydrostor",
    "Invinity", "CellCube", "Natron", "Faradion", "Altris", "Peak Energy", "HiNa", "Malta",
    "Antora", "Rondo", "Energy Dome", "Energy Vault", "Sunfire", "Electric Hydrogen", "Verdagy",
    "Ohmium", "Enapter",
)  # fmt: skip


def demo(
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the database and the exports are written.")
    ] = Path("demo"),
) -> None:
    """Run a batch end to end: a simulated sender, the real receiver, an export.

    Example:
        resultsink demo --folder demo
    """
    from rich.console import Console

    begin_work()
    console = Console(highlight=False, emoji=False)
    _make_empty(folder)
    with simulated_sender() as sandbox:
        settings = _settings(folder, sandbox.api_url)
        say_of(console, "sender", f"simulated at {sandbox.url}, in a bad mood")
        with receiver_process(settings, folder) as lines:
            say_of(console, "receiver", f"at {settings.public_url}, on a new SQLite file")
            with store_to_fill(settings) as store:
                ledger = run(_run(store, settings, lines, console))
                _print_ledger(ledger, store, console)
                _export(store, ledger, folder, console)
    if ledger.state != "complete" or ledger.stored != TASKS:
        raise typer.Exit(1)


async def _run(store: Store, settings: Settings, lines: IO[str], console: Console) -> Ledger:
    from receiver.providers.model import Plan
    from receiver.submissions.batches import NewBatch
    from receiver.submissions.waiting import wait

    new = NewBatch(Plan(name="grid storage", runner="fast"), _tasks(settings))
    with progress_bar(console=console, transient=False) as progress:
        finished = progress.add_task("finished at the sender", total=TASKS)
        stored = progress.add_task("results stored here", total=TASKS)

        def progressed(batches: Sequence[Ledger]) -> None:
            for batch in batches:
                progress.update(finished, completed=batch.announced)
                if batch.stored:
                    progress.update(stored, completed=batch.stored)

        def say(subject: str, text: str) -> None:
            say_of(progress.console, subject, text)

        threading.Thread(target=narrate, args=(lines, progress.console), daemon=True).start()
        async with batches_of(store, settings, "valyu") as batches:
            batch_id = await batches.create(
                new,
                created=lambda batch_id: say("batch", f"created, secret kept: {batch_id}"),
                added=lambda count: say("tasks", f"{count} accepted"),
            )
            (ledger,) = await wait(
                store,
                [store.batches.ledger(batch_id)],
                check=lambda batch: batches.look(batch.batch_id),
                deadline=WAIT_SECONDS,
                progressed=progressed,
                unread=say_unread,
                ask_seconds=0.5,
                young_seconds=0.0,
            )
            return ledger


def _print_ledger(ledger: Ledger, store: Store, console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in LEDGER:
        table.add_column(name.replace("_", " "))
    row = ledger.as_dict()
    table.add_row(*(readable(row[name]) for name in LEDGER))
    console.print()
    console.print(table)
    console.print()
    for event in store.events.list_newest():
        say_of(console, "event", f"{event['key']}, delivered {event['deliveries']} times")
    say_of(
        console,
        "refused",
        f"{len(store.quarantine.list_newest())} forged deliveries, kept for a look",
    )


def _export(store: Store, ledger: Ledger, folder: Path, console: Console) -> None:
    from storage import Selection

    selection = Selection(source=ledger.source, batch_id=ledger.batch_id)
    for name, format_ in (("results.csv", "csv"), ("results.jsonl", "jsonl")):
        path = folder / name
        with path.open("wb") as file:
            report = store.export.write(selection, format_, file)
        say_of(console, "written", f"{path}, {report.rows} results")


def _settings(folder: Path, api_url: str) -> Settings:
    from pydantic import SecretStr

    from receiver.settings import GivenSettings, SourceSettings

    return GivenSettings(
        database_url=f"sqlite:///{(folder / 'resultsink.db').absolute()}",
        public_url=f"http://127.0.0.1:{free_port()}",
        sources={"valyu": SourceSettings(api_key=SecretStr("val_demo"), base_url=api_url)},
    )


def _tasks(settings: Settings) -> list[NewTask]:
    from receiver.providers.capabilities.require import require_new_batches
    from receiver.sources import configured

    provider = require_new_batches(configured(settings)["valyu"].provider)
    rows = (
        {"id": f"company-{number}", "query": f"What is new at {name}?", "company": name}
        for number, name in enumerate(COMPANIES, start=1)
    )
    return [provider.new_task(row) for row in rows]


def _make_empty(folder: Path) -> None:
    """Make the folder, and delete the files of an earlier demo, but no others."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("resultsink.db*", "resultsink.key", "results.csv", "results.jsonl"):
            for old in folder.glob(pattern):
                old.unlink()
    except OSError as error:
        raise ReceiverError(f"The folder {folder} cannot be used: {error}.") from error
