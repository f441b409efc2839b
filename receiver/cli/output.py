"""What the commands share: opening the store, and printing for people and for programs."""

import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from receiver.api.responses import plain
from receiver.app import open_store
from receiver.errors import UsageError
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.settings import Settings, load
from receiver.sources import configured, named
from receiver.submissions.batches import Batches
from receiver.submissions.tasks import Tasks
from storage import Store

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SourceName = Annotated[str | None, typer.Option("--source", help="Only this source.")]

MAX_ID = 2**63 - 1
"""The largest integer that a column holds."""

Limit = Annotated[int, typer.Option(help="How many at most, newest first.", min=1, max=MAX_ID)]
Id = Annotated[
    int, typer.Argument(metavar="ID", help="Its id, as `list` shows it.", min=1, max=MAX_ID)
]
IdOrNone = Annotated[
    int | None,
    typer.Argument(metavar="[ID]", help="Its id, as `list` shows it.", min=1, max=MAX_ID),
]


def _a_span(timeout: float | None) -> float | None:
    if timeout is not None and not (math.isfinite(timeout) and timeout >= 0):
        raise UsageError(f"--timeout {timeout} is no span: give a number of seconds, 0 or more.")
    return timeout


Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds to wait at most; exit 1 when they are over.", callback=_a_span),
]

errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""For sentences: printed as they are, never broken where somebody may want to copy them."""


@contextmanager
def opened() -> Iterator[Store]:
    """The store of the current settings, where there is one: looking makes no database."""
    store = open_store(load(), create=False)
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def batches_of(store: Store, settings: Settings, source: str) -> AsyncIterator[Batches]:
    """The use cases on one source's batches."""
    found = named(configured(settings), source)
    async with clients_for(found) as client:
        yield Batches(store, Calls(found, client), settings.public_url, warn=errors.print)


@asynccontextmanager
async def tasks_of(store: Store, settings: Settings, source: str) -> AsyncIterator[Tasks]:
    """The use cases on one source's single runs."""
    found = named(configured(settings), source)
    async with clients_for(found) as client:
        yield Tasks(store, Calls(found, client), settings.public_url, warn=errors.print)


def say_unread(error: Exception) -> None:
    """Why a command that waits does not know now how far it is."""
    errors.print(f"{in_one_line(error).rstrip('.')}. Waiting goes on.")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, default=plain, indent=2))


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, nothing: str) -> None:
    """A table on standard output; full width where that is no terminal."""
    if not rows:
        errors.print(nothing)
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(readable(row[column]) for column in columns))
    console.print(table)


def readable(value: Any) -> str:
    """A value for Rich as a person reads it, with nothing that Rich or a terminal would act on."""
    return escape(in_one_line(value))


def in_one_line(value: Any) -> str:
    """A value as a person reads it, with nothing that a terminal would act on."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return harmless(str(value), keep="")


def harmless(text: str, *, keep: str = "\n\t") -> str:
    """Text from elsewhere without the control characters that a terminal would act on."""
    return "".join(char if char.isprintable() or char in keep else "�" for char in text)
