"""resultsink demo: the main job end to end, against a simulated sender that misbehaves."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from receiver.app import open_store
from receiver.cli.opening import batches_of
from receiver.cli.output import readable, say_unread
from receiver.errors import ReceiverError
from receiver.providers.model import Plan
from receiver.settings import GivenSettings, Settings, SourceSettings
from receiver.sources import configured
from receiver.submissions.batches import NewBatch
from receiver.submissions.waiting import wait
from storage import Ledger, Selection, Store

if TYPE_CHECKING:
    from receiver.sandbox import SandboxServer

TASKS = 25
PATIENCE_SECONDS = 60.0
START_SECONDS = 20.0

LEDGER = ("state", "sender_status", "expected", "announced", "stored", "failed")

COMPANIES = (
    "Northvolt", "Form Energy", "Fluence", "Eos", "ESS Tech", "Ambri", "Highview", "Hydrostor",
    "Invinity", "CellCube", "Natron", "Faradion", "Altris", "Peak Energy", "HiNa", "Malta",
    "Antora", "Rondo", "Energy Dome", "Energy Vault", "Sunfire", "Electric Hydrogen", "Verdagy",
    "Ohmium", "Enapter",
)  # fmt: skip


def demo(
    folder: Annotated[
        Path, typer.Option(help="Where the database and the exports are written.")
    ] = Path("demo"),
) -> None:
    """Run a batch end to end: a simulated sender, the real receiver, an export."""
    console = Console(highlight=False)
    _make_empty(folder)
    with _sender() as sandbox:
        settings = _settings(folder, sandbox.api_url)
        _say(console, "sender", f"simulated at {sandbox.url}, in a bad mood")
        with _receiver(settings, folder) as lines:
            _say(console, "receiver", f"at {settings.public_url}, on a new SQLite file")
            store = open_store(settings)
            try:
                ledger = asyncio.run(_run(store, settings, lines, console))
                _print_ledger(ledger, store, console)
                _export(store, ledger, folder, console)
            finally:
                store.close()
    if ledger.state != "complete" or ledger.stored != TASKS:
        raise typer.Exit(1)


async def _run(store: Store, settings: Settings, lines: IO[str], console: Console) -> Ledger:
    new = NewBatch(Plan(name="grid storage", runner="fast"), _tasks(settings))
    with _bar(console) as progress:
        finished = progress.add_task("finished at the sender", total=TASKS)
        stored = progress.add_task("results stored here", total=TASKS)

        def moved(now: Ledger) -> None:
            progress.update(finished, completed=now.announced)
            if now.stored:
                progress.update(stored, completed=now.stored)

        narrator = threading.Thread(target=_narrate, args=(lines, progress.console), daemon=True)
        narrator.start()
        async with batches_of(store, settings, "valyu") as batches:
            batch_id = await batches.create(
                new,
                created=lambda id: _say(progress.console, "batch", f"created, secret kept: {id}"),
                added=lambda count: _say(progress.console, "tasks", f"{count} accepted"),
            )
            return await wait(
                store,
                batch_id,
                source="valyu",
                batches=batches,
                deadline=PATIENCE_SECONDS,
                progressed=moved,
                unread=say_unread,
                status_seconds=0.5,
            )


# --- the sender, in a thread; the receiver, a process of its own --------------------------------


@contextmanager
def _sender() -> Iterator["SandboxServer"]:
    """A sender that does to us, beside its job, what senders and strangers do.

    Forgeries and copies of every delivery, two tasks that fail, pages of ten, one page answered
    500 and one 429.
    """
    from receiver.sandbox import Fault, Switches, serve_in_thread  # as in cli/sandbox.py

    tasks = "GET /deepresearch/batches/*/tasks"
    switches = Switches(
        duration=(1.0, 5.0),
        copies=2,
        forgeries=2,
        failing_tasks=2,
        max_page_size=10,
        faults=(
            Fault(match=tasks, status=500),
            Fault(match=f"{tasks}?*last_key=*", status=429, retry_after=1),
        ),
    )
    with serve_in_thread(switches) as sandbox:
        yield sandbox


@contextmanager
def _receiver(settings: Settings, folder: Path) -> Iterator[IO[str]]:
    """Run `resultsink serve` until the end of the block; yields its log, a JSON object a line."""
    source = settings.sources["valyu"]
    assert settings.public_url is not None  # noqa: S101  ours
    assert source.api_key is not None  # noqa: S101  ours
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("RESULTSINK_")},
        "RESULTSINK_DATABASE_URL": settings.database_url,
        "RESULTSINK_PUBLIC_URL": settings.public_url,
        "RESULTSINK_SOURCES__VALYU__API_KEY": source.api_key.get_secret_value(),
        "RESULTSINK_SOURCES__VALYU__BASE_URL": str(source.base_url),
        "RESULTSINK_LOG_FORMAT": "json",
    }
    port = settings.public_url.rpartition(":")[2]
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "receiver", "serve", "--port", port],
        env=environment,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None  # noqa: S101  it is a pipe
    try:
        _await_start(process, int(port))
        yield process.stderr
    finally:
        process.terminate()
        process.wait()


def _await_start(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            try:
                probe.connect(("127.0.0.1", port))
                probe.sendall(request)
                if probe.recv(64):
                    return
            except OSError:
                time.sleep(0.05)
    raise ReceiverError("The receiver did not start: run `resultsink serve` to see why.")


# --- telling what happens -----------------------------------------------------------------------


def _narrate(lines: IO[str], console: Console) -> None:
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            console.print(line.rstrip(), markup=False)
            continue
        if (teller := _TELLERS.get(told["event"])) is not None:
            _say(console, *teller(told))


def _delivery(told: dict[str, Any]) -> tuple[str, str]:
    kind, _, status = told["event_key"].split(":")[:3]
    if told["outcome"] == "duplicate":
        return "duplicate", f"ignored, answered after {told['ms']} ms: {kind} {status}"
    return "delivery", f"verified, on disk after {told['ms']} ms: {kind} {status}"


def _refusal(told: dict[str, Any]) -> tuple[str, str]:
    return "forgery", f"refused: {told['reason']}"


def _attempt(told: dict[str, Any]) -> tuple[str, str]:
    return "fetch", f"{told['outcome']} after {told['ms']} ms: {told['detail']}"


def _page(told: dict[str, Any]) -> tuple[str, str]:
    return "results", f"a page stored: {told['new']} new, {told['unchanged']} known"


_TELLERS: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "delivery": _delivery,
    "delivery refused": _refusal,
    "attempt": _attempt,
    "results stored": _page,
}

_STYLES = {"delivery": "green", "duplicate": "yellow", "forgery": "red", "results": "cyan"}


def _say(console: Console, what: str, text: str) -> None:
    style = _STYLES.get(what, "bold")
    console.print(f"[{style}]{what:<11}[/]{readable(text)}", soft_wrap=True)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _print_ledger(ledger: Ledger, store: Store, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in LEDGER:
        table.add_column(name.replace("_", " "))
    row = ledger.as_dict()
    table.add_row(*(readable(row[name]) for name in LEDGER))
    console.print()
    console.print(table)
    console.print()
    for event in store.events.list_newest():
        _say(console, "event", f"{event['key']}, delivered {event['deliveries']} times")
    _say(
        console,
        "refused",
        f"{len(store.quarantine.list_newest())} forged deliveries, kept for a look",
    )


def _export(store: Store, ledger: Ledger, folder: Path, console: Console) -> None:
    selection = Selection(source=ledger.source, batch_id=ledger.batch_id)
    for name, format_ in (("results.csv", "csv"), ("results.jsonl", "jsonl")):
        path = folder / name
        with path.open("wb") as file:
            report = store.export.write(selection, format_, file)
        _say(console, "written", f"{path}, {report.rows} results")


# --- making ready -------------------------------------------------------------------------------


def _settings(folder: Path, api_url: str) -> Settings:
    return GivenSettings(
        database_url=f"sqlite:///{(folder / 'resultsink.db').absolute()}",
        public_url=f"http://127.0.0.1:{_free_port()}",
        sources={"valyu": SourceSettings(api_key=SecretStr("val_demo"), base_url=api_url)},
    )


def _tasks(settings: Settings) -> list[Any]:
    provider = configured(settings)["valyu"].provider
    rows = (
        {"id": f"company-{number}", "query": f"What is new at {name}?", "company": name}
        for number, name in enumerate(COMPANIES, start=1)
    )
    return [provider.new_task(row) for row in rows]


def _make_empty(folder: Path) -> None:
    """A folder without the files of an earlier demo; nobody else's file is touched."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("resultsink.db*", "resultsink.key", "results.csv", "results.jsonl"):
            for old in folder.glob(pattern):
                old.unlink()
    except OSError as error:
        raise ReceiverError(f"The folder {folder} cannot be used: {error}.") from error


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
