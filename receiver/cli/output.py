"""What the commands share: opening the store, and printing for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from receiver.api.responses import plain

errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
"""For sentences: printed as they are, never broken where somebody may want to copy them."""


def say_unread(error: Exception) -> None:
    """Why a command that waits does not know now how far it is."""
    errors.print(f"{in_one_line(error).rstrip('.')}. Waiting goes on.")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, default=plain, indent=2))


def print_rows(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, nothing: str
) -> None:
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
