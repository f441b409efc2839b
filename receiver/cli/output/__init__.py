"""Printing for people and for programs.

Rich is loaded by the first sentence or table: `--help` needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import typer

from receiver.json_values import time_as_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@cache
def errors() -> Console:
    """Standard error, for sentences: unbroken, so that a command in one can be copied."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(sentence: str) -> None:
    """Print a sentence on standard error, above the progress bar where there is one."""
    errors().print(sentence)


def say_unread(error: Exception) -> None:
    """Say why a command that waits cannot read the progress now."""
    say(f"{in_one_line(error).rstrip('.')}. Waiting goes on.")


def progress_bar(
    *, in_percent: bool = False, console: Console | None = None, transient: bool = True
) -> Progress:
    """Return a progress bar, drawn only on a terminal: standard error unless `console` is given.

    It shows counts and the time so far, or percents and the time that remains.
    """
    from rich import progress

    console = console or errors()
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn() if in_percent else progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn() if in_percent else progress.TimeElapsedColumn(),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


@contextmanager
def counting(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar around a block; yields a function that sets the count."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def counted(count: int, what: str) -> str:
    """Return so many of a thing in words: `1 event`, `2 events`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, default=time_as_json, indent=2))


def print_rows(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, nothing: str
) -> None:
    """Print a table on standard output, or `nothing` on standard error where there are no rows."""
    if not rows:
        say(nothing)
        return
    from receiver.cli.output.tables import print_table

    print_table(rows, columns)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print named facts on standard output, one below the other; long ones are wrapped."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=240)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", min_width=9)
    table.add_column(overflow="fold")
    for name, fact in facts:
        table.add_row(name, readable(fact))
    console.print(table)


def print_list(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, nothing: str, as_json: bool
) -> None:
    """Print rows for programs as JSON, whole, or for people as a table of some columns."""
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, columns, nothing=nothing)


def readable(value: object) -> str:
    """Return a value as a person reads it, escaped for Rich."""
    from rich.markup import escape

    return escape(in_one_line(value))


def in_one_line(value: object) -> str:
    """Return a value as a person reads it, without characters that a terminal would act on."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return harmless(str(value), keep="")


def harmless(text: str, *, keep: str = "\n\t") -> str:
    """Replace the control characters that a terminal would act on."""
    return "".join(char if char.isprintable() or char in keep else "�" for char in text)
